//! The error of a handler is no `std::error::Error`, so that a bare `?` on any error means the safe thing: nobody knows.
use dr_core::StepError;

fn needs_error<E: std::error::Error>() {}

fn main() {
    needs_error::<StepError>();
}
