"""What every test shares: Hypothesis without deadlines and with the same examples on every run."""

from hypothesis import settings

settings.register_profile("shijim", deadline=None, derandomize=True)
settings.load_profile("shijim")
