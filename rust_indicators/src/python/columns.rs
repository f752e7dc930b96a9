//! Records ↔ columns for Python. No rules: `columns.rs` has them.
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::continuity::whole;
use crate::columns::{self, Column};
use crate::record::{RECORD_BYTES, Record};

/// Buffers of a call: (offset in the record, width in bytes, the column's values as bytes).
type Columns = Vec<(usize, usize, PyBuffer<u8>)>;

/// Refuses what would lie outside a record or of a buffer.
fn check(columns: &Columns, rows: usize, writable: bool) -> PyResult<()> {
    for (offset, width, values) in columns {
        if *width == 0 || offset + width > RECORD_BYTES || values.len_bytes() != rows * width {
            let found = values.len_bytes();
            return Err(PyValueError::new_err(format!("{found} bytes are no column of {rows} × {width} at {offset}")));
        }
        if !values.is_c_contiguous() || writable && values.readonly() {
            return Err(PyValueError::new_err(format!("the column at {offset} is not in one piece, or read-only")));
        }
    }
    Ok(())
}

/// Copies fields of the records into columns of writable bytes; `order` gives the rows, all of them if `None`.
#[pyfunction]
fn gather_columns(
    py: Python<'_>,
    records: PyBuffer<u8>,
    order: Option<PyBuffer<i64>>,
    columns: Columns,
) -> PyResult<()> {
    let bytes = whole(&records)?;
    let rows = (bytes.len() / RECORD_BYTES) as i64;
    let order = order.map_or_else(|| Ok((0..rows).collect()), |order| order.to_vec(py))?;
    if order.iter().any(|row| !(0..rows).contains(row)) {
        return Err(PyValueError::new_err(format!("the order names a row that is not among {rows}")));
    }
    check(&columns, order.len(), true)?;
    if order.is_empty() {
        return Ok(()); // an empty buffer may point nowhere
    }
    let mut outputs: Vec<_> = columns
        .iter()
        .map(|(offset, width, values)| {
            // SAFETY: contiguous and writable, alive as long as the buffer; our callers give every column its own.
            let values = unsafe { std::slice::from_raw_parts_mut(values.buf_ptr().cast::<u8>(), values.len_bytes()) };
            Column { offset: *offset, width: *width, values }
        })
        .collect();
    py.detach(|| columns::gather(bytes, &order, &mut outputs));
    Ok(())
}

fn inputs(columns: &Columns) -> Vec<Column<&[u8]>> {
    let values = |values: &PyBuffer<u8>| match values.len_bytes() {
        0 => &[][..], // an empty buffer may point nowhere
        // SAFETY: contiguous, alive as long as the buffer; our callers do not write to them meanwhile.
        length => unsafe { std::slice::from_raw_parts(values.buf_ptr().cast::<u8>(), length) },
    };
    columns
        .iter()
        .map(|(offset, width, column)| Column { offset: *offset, width: *width, values: values(column) })
        .collect()
}

fn template_of(bytes: &[u8]) -> PyResult<Record> {
    let record = bytes.try_into().map_err(|_| PyValueError::new_err("a template is one record of 256 bytes"))?;
    Ok(Record(record))
}

/// The records of columns, bytes that no column covers being the template's.
#[pyfunction]
fn scatter_columns<'py>(
    py: Python<'py>,
    template: &[u8],
    rows: usize,
    columns: Columns,
) -> PyResult<Bound<'py, PyBytes>> {
    let template = template_of(template)?;
    check(&columns, rows, false)?;
    let inputs = inputs(&columns);
    PyBytes::new_with(py, rows * RECORD_BYTES, |out| {
        let mut places = out.chunks_exact_mut(RECORD_BYTES);
        columns::scatter(&template, rows, &inputs, |records| {
            records.iter().zip(&mut places).for_each(|(record, place)| place.copy_from_slice(&record.0));
        });
        Ok(())
    })
}

/// `multiset_hash(scatter_columns(…))` without making the records.
#[pyfunction]
fn multiset_hash_of_columns(py: Python<'_>, template: &[u8], rows: usize, columns: Columns) -> PyResult<(u64, u64)> {
    let template = template_of(template)?;
    check(&columns, rows, false)?;
    let inputs = inputs(&columns);
    let hash = py.detach(|| columns::multiset(&template, rows, &inputs));
    Ok((hash.count, hash.sum))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(gather_columns, module)?)?;
    module.add_function(wrap_pyfunction!(scatter_columns, module)?)?;
    module.add_function(wrap_pyfunction!(multiset_hash_of_columns, module)?)
}
