//! `hub functions`: what mappings may use.

use std::fmt::Write;

use clap::Args;
use hub_transform::functions::{FunctionDoc, catalogue};
use hub_transform::normalise::general_functions;
use serde_json::json;

use crate::Global;
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub functions`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// One function, with its details.
    name: Option<String>,
    /// Print docs/functions.md.
    #[arg(long)]
    markdown: bool,
}

/// Prints the catalogue.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), Failure> {
    let wanted: Vec<&FunctionDoc> = catalogue().filter(|doc| options.name.as_ref().is_none_or(|name| plain(name) == doc.name)).collect();
    if let Some(name) = options.name.as_ref().filter(|_| wanted.is_empty()) {
        if general_functions().any(|known| known == name) {
            print_line(&format!("{name} is one of SQL's general functions, with the meaning it has in DataFusion and PostgreSQL"));
            return Ok(());
        }
        let names: Vec<&str> = catalogue().map(|doc| doc.name).collect();
        return Err(Failure::Usage(format!("there is no function {name}; {}", crate::config::schema::suggest(name, &names))));
    }
    if options.markdown {
        print_line(markdown(&wanted).trim_end());
    } else if global.json {
        wanted.iter().for_each(|doc| print_json(&as_json(doc)));
    } else if options.name.is_some() {
        wanted.iter().for_each(|doc| print_line(&details(doc)));
    } else {
        print_line(&overview(&wanted));
    }
    Ok(())
}

/// The name without `try_`.
fn plain(name: &str) -> &str {
    name.strip_prefix("try_").unwrap_or(name)
}

fn as_json(doc: &FunctionDoc) -> serde_json::Value {
    json!({
        "name": doc.name, "signature": doc.signature, "does": doc.does, "example": doc.example.0, "result": doc.example.1,
        "reasons": doc.codes
    })
}

fn overview(docs: &[&FunctionDoc]) -> String {
    let mut rows = table(&["function", "what it does", "example", "result"]);
    for doc in docs {
        rows.add_row([doc.signature, doc.does, doc.example.0, doc.example.1]);
    }
    let general = general_functions().count();
    format!("{rows}\n`hub functions NAME` tells more; SQL's operators, CASE, CAST and {general} general functions work too")
}

fn details(doc: &FunctionDoc) -> String {
    let mut text = format!("{}\n\n  {}\n\n  {} = {}\n", doc.signature, doc.does, doc.example.0, doc.example.1);
    if doc.codes.is_empty() {
        text.push_str("\n  It refuses nothing.");
    } else {
        let _ = write!(
            text,
            "\n  A value it refuses makes its row a reject: {}.\n  try_{} gives null instead.",
            doc.codes.join(", "),
            doc.name
        );
    }
    text
}

fn markdown(docs: &[&FunctionDoc]) -> String {
    let mut text = String::from(
        "# Functions of mappings\n\n<!-- Printed by `hub functions --markdown`; edit the catalogue in hub/transform/src/functions instead. -->\n\n\
         Null stays null, and so does blank text. A refused value makes its row a reject with one of the reason codes; under the\n\
         name `try_<function>` it becomes null instead.\n\n| Function | What it does |\n|---|---|\n",
    );
    for doc in docs {
        let _ = writeln!(text, "| [`{}`](#{}) | {} |", doc.name, doc.name, cell(doc.does));
    }
    for doc in docs {
        let _ = write!(
            text,
            "\n## {}\n\n`{}`\n\n{}\n\n```sql\n{} = {}\n```\n",
            doc.name, doc.signature, doc.does, doc.example.0, doc.example.1
        );
        if !doc.codes.is_empty() {
            let _ = write!(text, "\nRefuses with `{}`.\n", doc.codes.join("`, `"));
        }
    }
    let general: Vec<String> = general_functions().map(|name| format!("`{name}`")).collect();
    let _ = write!(text, "\n## General functions of SQL\n\nOperators, `CASE`, `CAST`, `COALESCE`, and: {}.\n", general.join(", "));
    text
}

/// A text that keeps its place in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_a_section_with_an_example() {
        let docs: Vec<&FunctionDoc> = catalogue().collect();
        let text = markdown(&docs);
        for doc in docs {
            assert!(text.contains(&format!("\n## {}\n", doc.name)), "{}", doc.name);
            assert!(text.contains(doc.example.0), "{}", doc.name);
        }
        assert_eq!(plain("try_vn_date"), "vn_date");
    }

    #[test]
    fn the_documentation_in_the_repository_is_what_the_catalogue_says() {
        let docs: Vec<&FunctionDoc> = catalogue().collect();
        let written = include_str!("../../../../docs/functions.md");
        assert!(written.trim_end() == markdown(&docs).trim_end(), "run `hub functions --markdown > docs/functions.md`");
    }
}
