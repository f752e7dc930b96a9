"""Every signal once more, in NumPy: the readable definition that tests compare the kernels with, and the fallback of
machines without them. Not fast. Imports NumPy, which a live host need not have.
"""

from rust_indicators.reference.bars import *
from rust_indicators.reference.book import *
from rust_indicators.reference.columns import EMPTY_PRICE_E6 as EMPTY_PRICE_E6
from rust_indicators.reference.correlation import *
from rust_indicators.reference.flow import *
from rust_indicators.reference.hawkes import *
from rust_indicators.reference.hawkes_bivariate import *
from rust_indicators.reference.impact import *
from rust_indicators.reference.integrated import *
from rust_indicators.reference.kalman import *
from rust_indicators.reference.microprice import *
from rust_indicators.reference.queue_position import *
from rust_indicators.reference.signal_set import *
from rust_indicators.reference.toxicity import *
from rust_indicators.reference.windows import *
