//! XML documents: elements become fields by their local names, attributes too; prefixes of namespaces are left out.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::{DocumentError, Fields, add, steps};

/// One element, read whole.
#[derive(Debug, Default)]
struct Element {
    name: String,
    text: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
}

/// Depth at which a document is refused: nothing that a province sends is nested so.
const DEEPEST: usize = 200;

/// Calls `take` with the fields of every row at `path`, which begins with the document's own element:
/// `/Envelope/Body/rows/row`. A step goes into every element of its name.
///
/// # Errors
/// [`DocumentError`], before or after rows were taken.
pub fn xml_rows(document: &str, path: &str, mut take: impl FnMut(Fields)) -> Result<(), DocumentError> {
    let root = parse(document)?;
    let outer = Element { children: vec![root], ..Element::default() };
    let mut level = vec![&outer];
    let mut names = steps(path).peekable();
    if names.peek().is_none() {
        level = outer.children.iter().collect();
    }
    while let Some(name) = names.next() {
        let inner: Vec<&Element> = level.iter().flat_map(|element| &element.children).filter(|child| child.name == name).collect();
        // No rows in a list that is there is an empty list.
        if inner.is_empty() && names.peek().is_some() {
            let mut there: Vec<&str> = level.iter().flat_map(|element| &element.children).map(|child| child.name.as_str()).collect();
            there.dedup();
            there.truncate(12);
            return Err(DocumentError::NoRows { path: path.to_owned(), found: format!("no {name} among {}", there.join(", ")) });
        }
        level = inner;
    }
    for row in level {
        let mut fields = Fields::new();
        flatten("", row, &mut fields);
        take(fields);
    }
    Ok(())
}

/// The text of the first element (or attribute, as `@name`) at a path that begins with the document's own element.
///
/// # Errors
/// [`DocumentError::Malformed`] where the document is no XML.
pub fn xml_at(document: &str, path: &str) -> Result<Option<String>, DocumentError> {
    let outer = Element { children: vec![parse(document)?], ..Element::default() };
    let mut element = &outer;
    for step in steps(path) {
        if let Some(attribute) = step.strip_prefix('@') {
            return Ok(element.attributes.iter().find(|(name, _)| name == attribute).map(|(_, value)| value.clone()));
        }
        match element.children.iter().find(|child| child.name == step) {
            Some(child) => element = child,
            None => return Ok(None),
        }
    }
    Ok(Some(element.text.trim().to_owned()))
}

fn flatten(prefix: &str, element: &Element, fields: &mut Fields) {
    let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}_{name}") };
    for (name, value) in &element.attributes {
        add(fields, &join(name), Some(value.clone()));
    }
    for (place, child) in element.children.iter().enumerate() {
        let same: Vec<&Element> = element.children.iter().filter(|other| other.name == child.name).collect();
        let is_first = element.children[..place].iter().all(|before| before.name != child.name);
        if same.len() > 1 {
            if is_first {
                add(fields, &join(&child.name), Some(list(&same)));
            }
        } else if child.children.is_empty() && child.attributes.is_empty() {
            add(fields, &join(&child.name), Some(child.text.trim().to_owned()));
        } else {
            flatten(&join(&child.name), child, fields);
        }
    }
    let own = element.text.trim();
    if !own.is_empty() {
        add(fields, if prefix.is_empty() { &element.name } else { prefix }, Some(own.to_owned()));
    }
}

/// Elements of one name as a JSON list.
fn list(elements: &[&Element]) -> String {
    let values = elements.iter().map(|element| {
        if element.children.is_empty() && element.attributes.is_empty() {
            return serde_json::Value::String(element.text.trim().to_owned());
        }
        let mut fields = Fields::new();
        flatten("", element, &mut fields);
        let members = fields.into_iter().map(|(name, value)| (name, value.map_or(serde_json::Value::Null, Into::into)));
        serde_json::Value::Object(members.collect())
    });
    serde_json::Value::Array(values.collect()).to_string()
}

fn parse(document: &str) -> Result<Element, DocumentError> {
    let mut reader = Reader::from_str(document.trim_start_matches('\u{feff}'));
    let mut open: Vec<Element> = vec![Element::default()];
    loop {
        let at = reader.buffer_position();
        let wrong = |why: String| malformed(format!("{why} (byte {at})"));
        match reader.read_event().map_err(|error| wrong(error.to_string()))? {
            Event::Start(start) if open.len() > DEEPEST => {
                return Err(wrong(format!("{} is nested more than {DEEPEST} deep", local(start.local_name().as_ref()))));
            }
            Event::Start(start) => open.push(element(&start).map_err(wrong)?),
            Event::Empty(start) => {
                let child = element(&start).map_err(wrong)?;
                adopt(&mut open, child);
            }
            Event::End(_) => {
                if let Some(child) = open.pop() {
                    adopt(&mut open, child);
                }
            }
            Event::Text(text) => append(&mut open, &text.decode().map_err(|error| wrong(error.to_string()))?),
            Event::CData(text) => append(&mut open, &text.decode().map_err(|error| wrong(error.to_string()))?),
            Event::GeneralRef(entity) => {
                let name = entity.decode().map_err(|error| wrong(error.to_string()))?;
                match entity.resolve_char_ref().map_err(|error| wrong(error.to_string()))? {
                    Some(letter) => append(&mut open, letter.encode_utf8(&mut [0; 4])),
                    // Entities of a document's own are never expanded: they are how a small document becomes a huge one.
                    None => match resolve_predefined_entity(&name) {
                        Some(text) => append(&mut open, text),
                        None => return Err(wrong(format!("the entity &{name}; is not one of XML's own"))),
                    },
                }
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if open.len() != 1 {
        let name = open.pop().map(|element| element.name).unwrap_or_default();
        return Err(malformed(format!("<{name}> is never closed")));
    }
    let root = open.pop().and_then(|mut outer| outer.children.pop());
    root.ok_or_else(|| malformed("there is no element".to_owned()))
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let mut element = Element { name: local(start.local_name().as_ref()), ..Element::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        // Declarations of namespaces say nothing of the row.
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?.into_owned();
        element.attributes.push((local(attribute.key.local_name().as_ref()), value));
    }
    Ok(element)
}

fn adopt(open: &mut [Element], child: Element) {
    if let Some(parent) = open.last_mut() {
        parent.children.push(child);
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn local(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn malformed(why: String) -> DocumentError {
    DocumentError::Malformed { form: "XML", why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn rows(document: &str, path: &str) -> Vec<Vec<(String, String)>> {
        let mut rows = Vec::new();
        let take = |fields: Fields| rows.push(fields.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect());
        xml_rows(document, path, take).unwrap();
        rows
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn citizens_of_the_national_database_are_rows() {
        let document = r#"<?xml version="1.0" encoding="utf-8"?>
            <s:Envelope xmlns:s="http://x"><s:Body><CongDan ma="1"><SoDinhDanh>074090000001</SoDinhDanh>
            <HoVaTen><Ho>Nguyễn</Ho><Ten>Ánh &amp; &#272;</Ten></HoVaTen><Con/></CongDan></s:Body></s:Envelope>"#;
        assert_eq!(
            rows(document, "/Envelope/Body/CongDan"),
            [pairs(&[("ma", "1"), ("SoDinhDanh", "074090000001"), ("HoVaTen_Ho", "Nguyễn"), ("HoVaTen_Ten", "Ánh & Đ"), ("Con", "")])]
        );
    }

    #[test]
    fn repeated_elements_are_a_list_and_text_beside_attributes_is_kept() {
        let found = rows(r#"<r><x><p>1</p><p a="b">2</p><t k="v">chữ</t></x></r>"#, "/r/x");
        assert_eq!(found, [pairs(&[("p", r#"["1",{"a":"b","p":"2"}]"#), ("t_k", "v"), ("t", "chữ")])]);
    }

    #[test]
    fn an_empty_list_has_no_rows_and_a_wrong_path_tells_what_is_there() {
        assert!(rows("<rows/>", "/rows/row").is_empty());
        let error = xml_rows("<Rows><row/></Rows>", "/rows/row", |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "there is nothing at /rows/row: no rows among Rows");
    }

    #[test]
    fn what_is_no_xml_and_entities_of_its_own_are_refused() {
        for document in ["", "<a>", "<a></b>", r#"<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>"#, &"<a>".repeat(300)] {
            assert!(matches!(xml_rows(document, "", |_| {}), Err(DocumentError::Malformed { .. })), "{document}");
        }
    }

    #[test]
    fn single_values_are_found_by_path() {
        let document = r#"<a><b c="7"> x </b></a>"#;
        assert_eq!(xml_at(document, "/a/b").unwrap().as_deref(), Some("x"));
        assert_eq!(xml_at(document, "/a/b/@c").unwrap().as_deref(), Some("7"));
        assert_eq!(xml_at(document, "/a/z").unwrap(), None);
    }
}
