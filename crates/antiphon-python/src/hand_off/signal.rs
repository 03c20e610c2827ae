//! A place for one word to another thread, which sleeps until it comes.

use std::sync::{Condvar, Mutex, PoisonError};

/// One word at a time. Sending never waits; a word that comes first is kept.
pub struct Signal<T> {
    word: Mutex<Option<T>>,
    sent: Condvar,
}

impl<T> Signal<T> {
    /// Nothing was sent.
    pub const fn new() -> Self {
        Self { word: Mutex::new(None), sent: Condvar::new() }
    }

    /// Sends a word, in the place of one that nobody has taken.
    pub fn send(&self, word: T) {
        *self.word.lock().unwrap_or_else(PoisonError::into_inner) = Some(word);
        self.sent.notify_one();
    }

    /// Takes the word, or sleeps until there is one. The caller has released the interpreter.
    pub fn wait(&self) -> T {
        let mut word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match word.take() {
                Some(word) => return word,
                None => word = self.sent.wait(word).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
