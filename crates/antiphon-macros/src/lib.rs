//! The attribute `antiphon::main`; use it through the crate `antiphon`.

#![forbid(unsafe_code)]

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Makes a `fn main` of an `async fn main`: runs it on a loop of its own by `antiphon::run`.
///
/// If the loop cannot be run the program panics with the reason.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        return error("antiphon::main takes no arguments: make a Runner for settings");
    }
    let tokens: Vec<TokenTree> = item.clone().into_iter().collect();
    let is_word =
        |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(ident) if ident.to_string() == word);
    let Some(keyword) = tokens.iter().position(|token| is_word(token, "async")) else {
        return error("antiphon::main is for an `async fn`");
    };
    let (Some(function), Some(TokenTree::Ident(name))) = (tokens.get(keyword + 1), tokens.get(keyword + 2))
    else {
        return error("antiphon::main is for an `async fn`");
    };
    let without_arguments = matches!(
        tokens.get(keyword + 3),
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty()
    );
    if !is_word(function, "fn") || !without_arguments {
        return error("antiphon::main is for an `async fn` without arguments");
    }
    // Attributes and visibility go to the outer function, the whole signature with its body into it.
    let outer: TokenStream = tokens[..keyword].iter().cloned().collect();
    let returns: TokenStream = tokens[keyword + 4..tokens.len() - 1].iter().cloned().collect();
    let inner: TokenStream = tokens[keyword..].iter().cloned().collect();
    let text = format!(
        "{outer} fn {name}() {returns} {{
            {inner}
            match ::antiphon::run({name}()) {{
                ::std::result::Result::Ok(outcome) => outcome,
                ::std::result::Result::Err(error) => ::std::panic!(\"{{error}}\"),
            }}
        }}"
    );
    text.parse().unwrap_or_else(|_| error("antiphon::main cannot read this function"))
}

fn error(message: &str) -> TokenStream {
    format!("::std::compile_error!({message:?});").parse().unwrap_or_default()
}
