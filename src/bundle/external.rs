//! The external-data files that an `.onnx` file refers to, found without loading the model.
//!
//! Field numbers are those of onnx.proto3 (ONNX 1.17).

use std::collections::BTreeSet;
use std::io::{BufReader, Error, ErrorKind, Read, Result, Seek};
use std::path::Path;

use crate::files;

/// The protobuf messages between a model and its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
    Entry,
}

impl Message {
    /// The message in `field`, if it can contain a tensor.
    fn within(self, field: u64) -> Option<Message> {
        Some(match (self, field) {
            (Message::Model, 7) | (Message::Attribute, 6 | 11) => Message::Graph,
            (Message::Model, 25) => Message::Function,
            (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
            (Message::Node, 5) | (Message::Function, 11) => Message::Attribute,
            (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Message::Sparse,
            (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::Sparse, 1 | 2) => {
                Message::Tensor
            }
            (Message::Tensor, 13) => Message::Entry,
            _ => return None,
        })
    }
}

/// Graphs nest through node attributes; deeper nesting than this is refused.
const MAX_DEPTH: usize = 64;

/// The longest name or path that is read.
const MAX_TEXT: u64 = 4096;

/// The locations of the external data of the model at `path`, as written there.
///
/// # Errors
/// An unreadable file, or one that is not a protocol buffer.
pub(super) fn locations(path: &Path) -> Result<BTreeSet<String>> {
    let file = files::open_regular(path)?;
    let length = file.metadata()?.len();
    let mut walk = Walk {
        from: BufReader::new(file),
        found: BTreeSet::new(),
    };
    walk.message(Message::Model, length, 0)?;
    Ok(walk.found)
}

struct Walk<R> {
    from: R,
    found: BTreeSet<String>,
}

impl<R: Read + Seek> Walk<R> {
    /// Reads a message of `length` bytes.
    fn message(&mut self, message: Message, length: u64, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(damaged());
        }
        let mut left = length;
        let (mut key, mut value) = (String::new(), String::new());
        while left > 0 {
            let tag = self.varint(&mut left)?;
            let length = match tag & 7 {
                0 => {
                    self.varint(&mut left)?;
                    0
                }
                1 => 8,
                2 => self.varint(&mut left)?,
                5 => 4,
                _ => return Err(damaged()),
            };
            left = left.checked_sub(length).ok_or_else(damaged)?;
            let field = tag >> 3;
            match (tag & 7, message.within(field), message, field) {
                (2, Some(inner), ..) => self.message(inner, length, depth + 1)?,
                (2, None, Message::Entry, 1) => key = self.text(length)?,
                (2, None, Message::Entry, 2) => value = self.text(length)?,
                _ => self
                    .from
                    .seek_relative(i64::try_from(length).map_err(|_| damaged())?)?,
            }
        }
        if key == "location" {
            self.found.insert(value);
        }
        Ok(())
    }

    fn varint(&mut self, left: &mut u64) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            *left = left.checked_sub(1).ok_or_else(damaged)?;
            let mut byte = [0];
            self.from.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    fn text(&mut self, length: u64) -> Result<String> {
        if length > MAX_TEXT {
            return Err(damaged());
        }
        let mut text = vec![0; length as usize];
        self.from.read_exact(&mut text)?;
        String::from_utf8(text).map_err(|_| damaged())
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::InvalidData, "not an ONNX model")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Field `number` holding `bytes`.
    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = varint(number << 3 | 2);
        out.extend(varint(bytes.len() as u64));
        out.extend_from_slice(bytes);
        out
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value > 0x7f {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    fn walk(bytes: &[u8]) -> Result<BTreeSet<String>> {
        let mut walk = Walk {
            from: Cursor::new(bytes),
            found: BTreeSet::new(),
        };
        walk.message(Message::Model, bytes.len() as u64, 0)?;
        Ok(walk.found)
    }

    /// A tensor with external data whose entry has its value before its key.
    fn tensor(location: &str) -> Vec<u8> {
        let entry = [field(2, location.as_bytes()), field(1, b"location")].concat();
        [field(9, &[0; 300]), field(13, &entry)].concat()
    }

    #[test]
    fn tensors_are_found_wherever_they_lie() {
        let in_graph = |tensor: Vec<u8>| field(7, &field(5, &tensor));
        let in_attribute = |tensor: Vec<u8>| field(7, &field(1, &field(5, &field(5, &tensor))));
        let in_subgraph =
            |tensor: Vec<u8>| field(7, &field(1, &field(5, &field(6, &field(5, &tensor)))));
        let in_function = |tensor: Vec<u8>| field(25, &field(7, &field(5, &field(5, &tensor))));
        let sparse = |tensor: Vec<u8>| field(7, &field(15, &field(1, &tensor)));
        let model = [
            in_graph(tensor("a")),
            in_attribute(tensor("b")),
            in_subgraph(tensor("c")),
            in_function(tensor("d")),
            sparse(tensor("e")),
        ];
        let found = walk(&model.concat()).unwrap();
        assert_eq!(found.into_iter().collect::<String>(), "abcde");
    }

    #[test]
    fn what_is_no_model_is_refused_whole_or_cut() {
        let model = field(7, &field(5, &tensor("weights")));
        for cut in 1..model.len() {
            assert!(walk(&model[..cut]).is_err(), "{cut}");
        }
        assert!(walk(b"this is no model").is_err());
    }
}
