//! `hub functions`: what mappings may use.

use clap::Args;
use hub_transform::functions::{FunctionDoc, catalogue};
use serde_json::json;

use crate::Global;
use crate::failure::Failure;
use crate::table::{print_json, print_line, table};

/// Options of `hub functions`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// One function.
    name: Option<String>,
    /// Print docs/functions.md.
    #[arg(long)]
    markdown: bool,
}

/// Prints the catalogue.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), Failure> {
    let wanted: Vec<&FunctionDoc> = catalogue().filter(|doc| options.name.as_ref().is_none_or(|name| name == doc.name)).collect();
    if let Some(name) = options.name.as_ref().filter(|_| wanted.is_empty()) {
        let names: Vec<&str> = catalogue().map(|doc| doc.name).collect();
        return Err(Failure::Usage(format!("there is no function {name}; {}", crate::config::schema::suggest(name, &names))));
    }
    if options.markdown {
        print_line(&markdown(&wanted));
    } else if global.json {
        for doc in wanted {
            print_json(&json!({
                "name": doc.name, "signature": doc.signature, "does": doc.does, "example": doc.example.0, "result": doc.example.1,
                "reasons": doc.codes
            }));
        }
    } else {
        let mut rows = table(&["function", "what it does", "example", "refuses with"]);
        for doc in wanted {
            let example = format!("{} = {}", doc.example.0, doc.example.1);
            rows.add_row([doc.signature, doc.does, &example, &doc.codes.join(", ")]);
        }
        print_line(&rows.to_string());
    }
    Ok(())
}

fn markdown(docs: &[&FunctionDoc]) -> String {
    let mut text = String::from(
        "# Functions of mappings\n\nPrinted by `hub functions --markdown`. Null stays null, and so does blank text. A refused value makes its row a reject with \
         one of the reason codes; under the name `try_<function>` it becomes null instead. The SQL functions of DataFusion (text, dates, numbers, `CASE`, `COALESCE`, `CAST`) work too.\n",
    );
    for doc in docs {
        text.push_str(&format!("\n## {}\n\n`{}`\n\n{}\n\n    {} = {}\n", doc.name, doc.signature, doc.does, doc.example.0, doc.example.1));
        if !doc.codes.is_empty() {
            text.push_str(&format!("\nRefuses with `{}`.\n", doc.codes.join("`, `")));
        }
    }
    text
}
