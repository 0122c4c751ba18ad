//! The `countermand` program: parse, run, exit code.

fn main() {}
