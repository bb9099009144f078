//! Programs that must not compile, with what the compiler says about them: the part of the guards that is in the types.

#[test]
fn dangerous_programs_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
