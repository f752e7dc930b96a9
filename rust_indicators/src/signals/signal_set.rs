//! Every live signal of every instrument in one object: one call an event, whatever its symbol.
