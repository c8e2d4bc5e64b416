//! What a statement in the log does to tables; only as much of SQL as that needs.

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// A transaction begins.
    Begin,
    /// It ends; what it did stands.
    Commit,
    /// It ends; what it did is undone.
    Rollback,
    /// All rows of a table are removed.
    Truncate(Table),
    /// Tables are made, changed, renamed or dropped.
    Tables { dropped: Vec<Table>, changed: Vec<Table> },
    /// A whole database is dropped.
    DropDatabase(String),
    /// Rows are changed, and the statement stands in the log instead of them.
    Rows,
    /// A prepared transaction is decided upon.
    Xa,
    /// Nothing that matters here.
    Other,
}

/// A table, with its database where the statement names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) database: String,
    pub(crate) name: String,
}

/// Reads a statement that was run in `database`.
pub(crate) fn understand(text: &str, database: &str) -> Statement {
    let mut words = Words::new(text, database);
    match words.next_word().as_str() {
        "BEGIN" | "START" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "ROLLBACK" if words.peek_word() == "TO" => Statement::Other,
        "ROLLBACK" => Statement::Rollback,
        "XA" => Statement::Xa,
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" => Statement::Rows,
        "TRUNCATE" => {
            words.skip(&["TABLE"]);
            words.table().map_or(Statement::Other, Statement::Truncate)
        }
        "CREATE" => {
            // One that replaces another table takes its rows away.
            let replaces = words.peek_word() == "OR";
            words.skip(&["OR", "REPLACE"]);
            if words.next_word() != "TABLE" {
                return Statement::Other;
            }
            words.skip(&["IF", "NOT", "EXISTS"]);
            let changed: Vec<Table> = words.table().into_iter().collect();
            Statement::Tables { dropped: if replaces { changed.clone() } else { Vec::new() }, changed }
        }
        "ALTER" => {
            words.skip(&["ONLINE", "OFFLINE", "IGNORE"]);
            if words.next_word() != "TABLE" {
                return Statement::Other;
            }
            words.skip(&["IF", "EXISTS"]);
            let Some(table) = words.table() else { return Statement::Other };
            let dropped = if words.find_loss() { vec![table.clone()] } else { Vec::new() };
            Statement::Tables { dropped, changed: vec![table] }
        }
        "DROP" => {
            words.skip(&["TEMPORARY"]);
            match words.next_word().as_str() {
                "TABLE" | "TABLES" => {
                    words.skip(&["IF", "EXISTS"]);
                    Statement::Tables { dropped: words.tables(), changed: Vec::new() }
                }
                "DATABASE" | "SCHEMA" => {
                    words.skip(&["IF", "EXISTS"]);
                    words.name().map_or(Statement::Other, Statement::DropDatabase)
                }
                _ => Statement::Other,
            }
        }
        "RENAME" => {
            if !matches!(words.next_word().as_str(), "TABLE" | "TABLES") {
                return Statement::Other;
            }
            words.skip(&["IF", "EXISTS"]);
            let mut dropped = Vec::new();
            while let Some(from) = words.table() {
                words.skip(&["WAIT", "NOWAIT", "TO"]);
                dropped.push(from);
                if words.table().is_none() || !words.comma() {
                    break;
                }
            }
            Statement::Tables { changed: dropped.clone(), dropped }
        }
        _ => Statement::Other,
    }
}

/// A statement word by word; comments are passed, those that servers run (`/*! … */`) are read.
struct Words<'a> {
    rest: &'a str,
    database: &'a str,
}

impl<'a> Words<'a> {
    fn new(text: &'a str, database: &'a str) -> Self {
        Self { rest: text, database }
    }

    fn blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix("/*") {
                let runs = rest.strip_prefix("M!").or_else(|| rest.strip_prefix('!'));
                self.rest = match runs {
                    Some(rest) => rest.trim_start_matches(|letter: char| letter.is_ascii_digit()),
                    None => rest.split_once("*/").map_or("", |(_, rest)| rest),
                };
            } else if let Some(rest) = self.rest.strip_prefix("*/") {
                self.rest = rest;
            } else if self.rest.starts_with("-- ") || self.rest.starts_with('#') {
                self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
            } else {
                return;
            }
        }
    }

    /// The next word in capitals; empty where there is none.
    fn next_word(&mut self) -> String {
        let word = self.peek_word();
        self.rest = self.rest.get(word.len()..).unwrap_or_default();
        word
    }

    fn peek_word(&mut self) -> String {
        self.blank();
        let end = self.rest.find(|letter: char| !letter.is_ascii_alphabetic() && letter != '_').unwrap_or(self.rest.len());
        self.rest.get(..end).unwrap_or_default().to_ascii_uppercase()
    }

    fn skip(&mut self, words: &[&str]) {
        while words.contains(&self.peek_word().as_str()) {
            self.next_word();
        }
    }

    /// A name, in backquotes, in quotes or bare.
    fn name(&mut self) -> Option<String> {
        self.blank();
        let first = self.rest.chars().next()?;
        if first == '`' || first == '"' {
            let mut name = String::new();
            let mut letters = self.rest.char_indices().skip(1).peekable();
            while let Some((at, letter)) = letters.next() {
                if letter != first {
                    name.push(letter);
                } else if letters.next_if(|(_, next)| *next == first).is_some() {
                    name.push(first);
                } else {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Some(name);
                }
            }
            return None;
        }
        let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$';
        let end = self.rest.find(|letter: char| !is_of_name(letter)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn table(&mut self) -> Option<Table> {
        let first = self.name()?;
        self.blank();
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            return Some(Table { database: first, name: self.name()? });
        }
        Some(Table { database: self.database.to_owned(), name: first })
    }

    fn tables(&mut self) -> Vec<Table> {
        let mut tables = Vec::new();
        while let Some(table) = self.table() {
            tables.push(table);
            if !self.comma() {
                break;
            }
        }
        tables
    }

    fn comma(&mut self) -> bool {
        self.blank();
        match self.rest.strip_prefix(',') {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Whether a clause of ALTER TABLE gives the table another name (columns and indexes have such clauses of their own), or takes
    /// rows away without a trace in the log.
    fn find_loss(&mut self) -> bool {
        let mut depth = 0u32;
        let mut is_clause = true;
        loop {
            self.blank();
            let Some(first) = self.rest.chars().next() else { return false };
            match first {
                '`' | '"' => {
                    if self.name().is_none() {
                        return false;
                    }
                    is_clause = false;
                }
                '\'' => {
                    let end = self.rest.get(1..).and_then(|rest| rest.find('\''));
                    let Some(end) = end else { return false };
                    self.rest = self.rest.get(end + 2..).unwrap_or_default();
                    is_clause = false;
                }
                letter if letter.is_ascii_alphabetic() => {
                    let word = self.next_word();
                    let next = self.peek_word();
                    let is_loss = match word.as_str() {
                        "RENAME" => !matches!(next.as_str(), "COLUMN" | "INDEX" | "KEY"),
                        "DROP" | "TRUNCATE" | "EXCHANGE" | "CONVERT" => next == "PARTITION",
                        "DISCARD" | "IMPORT" => true,
                        _ => false,
                    };
                    if is_clause && depth == 0 && is_loss {
                        return true;
                    }
                    is_clause = false;
                }
                letter => {
                    match letter {
                        '(' => depth += 1,
                        ')' => depth = depth.saturating_sub(1),
                        ',' => is_clause = true,
                        _ => is_clause = false,
                    }
                    self.rest = self.rest.get(letter.len_utf8()..).unwrap_or_default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn table(database: &str, name: &str) -> Table {
        Table { database: database.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn truncates_name_their_table_in_every_spelling() {
        let truncated = |text: &str| understand(text, "db");
        assert_eq!(truncated("truncate `hồ sơ`"), Statement::Truncate(table("db", "hồ sơ")));
        assert_eq!(truncated("TRUNCATE TABLE a . `b``c`"), Statement::Truncate(table("a", "b`c")));
        assert_eq!(truncated("/* x */ TRUNCATE /*!40000 TABLE */ t"), Statement::Truncate(table("db", "t")));
    }

    #[test]
    fn a_table_is_gone_when_it_is_dropped_or_renamed() {
        let read = |text: &str| match understand(text, "db") {
            Statement::Tables { dropped, changed } => (dropped, changed),
            other => panic!("{other:?}"),
        };
        assert_eq!(read("DROP TABLE IF EXISTS `a`,b.c /* generated by server */").0, [table("db", "a"), table("b", "c")]);
        assert_eq!(read("RENAME TABLE a TO b, c.d TO c.e").0, [table("db", "a"), table("c", "d")]);
        assert_eq!(read("ALTER TABLE a ADD x INT COMMENT 'RENAME', RENAME TO b").0, [table("db", "a")]);
        assert_eq!(read("ALTER TABLE a RENAME COLUMN x TO y"), (vec![], vec![table("db", "a")]));
        assert_eq!(read("ALTER TABLE a DROP COLUMN x, DROP PARTITION p1").0, [table("db", "a")]);
        assert_eq!(read("CREATE OR REPLACE TABLE a (id int)").0, [table("db", "a")]);
        assert_eq!(read("CREATE TABLE a (id int)").0, []);
    }

    #[test]
    fn rows_in_words_and_the_ends_of_transactions_are_told_apart() {
        assert_eq!(understand("INSERT INTO a VALUES (1)", "db"), Statement::Rows);
        assert_eq!(understand("ROLLBACK TO SAVEPOINT x", "db"), Statement::Other);
        assert_eq!(understand("COMMIT", "db"), Statement::Commit);
        assert_eq!(understand("CREATE USER x", "db"), Statement::Other);
    }
}
