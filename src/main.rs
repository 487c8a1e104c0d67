//! The command line of efface.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
