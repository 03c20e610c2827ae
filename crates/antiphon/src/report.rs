//! Where antiphon speaks to people without being asked: standard error.

/// Prints `text`, all of it in one write. Nobody hears of it if that fails.
pub(crate) fn report(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}
