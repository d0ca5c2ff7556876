//! What a backup of the controller holds, as lines of JSON: a head, the CA's files, each table with its rows, an end. Compressed with zstd.
//!
//! It knows no seal and no place. What always holds: a backup without its end is refused, and so is a table whose rows are not those that
//! were written.

use std::io::{BufRead, BufReader, Write};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use muster_common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::sql::Value;
use crate::store::tables::{Kind, Sum, Table};

/// The format's version.
const FORMAT: u32 = 1;
/// zstd's level: its usual one.
const LEVEL: i32 = 3;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The format: 1.
    pub format: u32,
    /// When it was taken, by the controller's clock.
    pub taken: Timestamp,
    /// The store.
    pub store_id: String,
    /// The store's term.
    pub term: u64,
    /// The schema's version.
    pub schema: i64,
    /// The build that took it.
    pub build: String,
}

impl Head {
    /// A head of this build's format.
    #[must_use]
    pub fn new(taken: Timestamp, store_id: String, term: u64, schema: i64) -> Self {
        Self { format: FORMAT, taken, store_id, term, schema, build: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// A file of the CA.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptFile {
    /// Its name in the CA's folder.
    pub name: String,
    /// Its permissions.
    pub mode: u32,
    /// What it holds, in base64.
    pub base64: String,
}

impl KeptFile {
    /// A file with these bytes.
    #[must_use]
    pub fn new(name: String, mode: u32, bytes: &[u8]) -> Self {
        Self { name, mode, base64: BASE64.encode(bytes) }
    }

    /// What it holds.
    ///
    /// # Errors
    /// Where it is no base64.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        BASE64.decode(&self.base64).context("a file's base64")
    }
}

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Head(Head),
    File(KeptFile),
    Table { name: String, columns: Vec<(String, char)> },
    Row(Vec<serde_json::Value>),
    EndOfTable { rows: u64, sum: String },
    End { tables: u64 },
}

/// What comes out of a backup, in order.
pub enum Piece {
    /// First.
    Head(Head),
    /// A file of the CA.
    File(KeptFile),
    /// A table's rows follow.
    Table(Table),
    /// A row of it.
    Row(Vec<Value>),
    /// The last piece.
    End,
}

/// Writes a backup.
pub struct Writer {
    out: zstd::stream::write::Encoder<'static, Vec<u8>>,
    sum: Sum,
    tables: u64,
}

impl Writer {
    /// Begins one.
    ///
    /// # Errors
    /// zstd's.
    pub fn begin(head: &Head) -> Result<Self> {
        let out = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).context("begin to compress")?;
        let mut writer = Self { out, sum: Sum::default(), tables: 0 };
        writer.line(&Line::Head(head.clone()))?;
        Ok(writer)
    }

    /// A file of the CA.
    ///
    /// # Errors
    /// zstd's.
    pub fn file(&mut self, file: KeptFile) -> Result<()> {
        self.line(&Line::File(file))
    }

    /// Begins a table.
    ///
    /// # Errors
    /// zstd's.
    pub fn table(&mut self, table: &Table) -> Result<()> {
        self.sum = Sum::default();
        self.tables += 1;
        let columns = table.columns.iter().map(|(name, kind)| (name.clone(), letter(*kind))).collect();
        self.line(&Line::Table { name: table.name.clone(), columns })
    }

    /// A row of the table that was begun.
    ///
    /// # Errors
    /// zstd's.
    pub fn row(&mut self, row: &[Value]) -> Result<()> {
        self.sum.add(row);
        let values = row.iter().map(|value| match value {
            Value::Number(number) => number.map_or(serde_json::Value::Null, Into::into),
            Value::Text(text) => text.clone().map_or(serde_json::Value::Null, Into::into),
            Value::Bytes(bytes) => bytes.as_ref().map_or(serde_json::Value::Null, |bytes| BASE64.encode(bytes).into()),
        });
        self.line(&Line::Row(values.collect()))
    }

    /// Ends the table; tells how many rows it has.
    ///
    /// # Errors
    /// zstd's.
    pub fn end_table(&mut self) -> Result<u64> {
        let (rows, sum) = (self.sum.rows, self.sum.text());
        self.line(&Line::EndOfTable { rows, sum })?;
        Ok(rows)
    }

    /// Ends it; gives the bytes.
    ///
    /// # Errors
    /// zstd's.
    pub fn end(mut self) -> Result<Vec<u8>> {
        let tables = self.tables;
        self.line(&Line::End { tables })?;
        self.out.finish().context("compress")
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        serde_json::to_writer(&mut self.out, line).context("write as JSON")?;
        self.out.write_all(b"\n").context("compress")
    }
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::Number => 'n',
        Kind::Text => 't',
        Kind::Bytes => 'b',
    }
}

/// Reads a backup, piece by piece.
pub struct Reader<'a> {
    lines: std::io::Lines<BufReader<zstd::stream::read::Decoder<'a, BufReader<&'a [u8]>>>>,
    table: Option<Table>,
    sum: Sum,
    tables: u64,
}

impl<'a> Reader<'a> {
    /// Begins; gives the head.
    ///
    /// # Errors
    /// Where these bytes are no backup, or one of another format.
    pub fn begin(bytes: &'a [u8]) -> Result<(Self, Head)> {
        let lines = BufReader::new(zstd::stream::read::Decoder::new(bytes).context("begin to decompress")?).lines();
        let mut reader = Self { lines, table: None, sum: Sum::default(), tables: 0 };
        match reader.piece()? {
            Piece::Head(head) => {
                ensure!(head.format == FORMAT, "the backup's format is {}; this build reads {FORMAT}", head.format);
                Ok((reader, head))
            }
            Piece::File(_) | Piece::Table(_) | Piece::Row(_) | Piece::End => bail!("the backup has no head"),
        }
    }

    /// The next piece.
    ///
    /// # Errors
    /// Where it is cut or not as it was written.
    pub fn piece(&mut self) -> Result<Piece> {
        loop {
            let line = self.lines.next().context("the backup ends before its end")?.context("decompress")?;
            return Ok(match serde_json::from_str(&line).context("read a line of the backup")? {
                Line::Head(head) => Piece::Head(head),
                Line::File(file) => Piece::File(file),
                Line::Table { name, columns } => {
                    let columns = columns.into_iter().map(|(name, letter)| kind(letter).map(|kind| (name, kind)));
                    let table = Table { name, columns: columns.collect::<Result<_>>()? };
                    (self.sum, self.table) = (Sum::default(), Some(table.clone()));
                    self.tables += 1;
                    Piece::Table(table)
                }
                Line::Row(values) => {
                    let table = self.table.as_ref().context("a row without a table")?;
                    ensure!(values.len() == table.columns.len(), "a row of {} has {} columns", table.name, values.len());
                    let row =
                        table.columns.iter().zip(values).map(|((_, kind), value)| value_of(*kind, value)).collect::<Result<Vec<_>>>()?;
                    self.sum.add(&row);
                    Piece::Row(row)
                }
                Line::EndOfTable { rows, sum } => {
                    let same = rows == self.sum.rows && sum == self.sum.text();
                    ensure!(same, "the rows of {:?} are not those that were written", self.table.take().map(|table| table.name));
                    self.table = None;
                    continue;
                }
                Line::End { tables } => {
                    ensure!(tables == self.tables && self.table.is_none(), "tables are missing");
                    Piece::End
                }
            });
        }
    }
}

fn kind(letter: char) -> Result<Kind> {
    Ok(match letter {
        'n' => Kind::Number,
        't' => Kind::Text,
        'b' => Kind::Bytes,
        other => bail!("a column is {other:?}"),
    })
}

fn value_of(kind: Kind, value: serde_json::Value) -> Result<Value> {
    Ok(match (kind, value) {
        (Kind::Number, serde_json::Value::Null) => Value::Number(None),
        (Kind::Number, value) => Value::Number(Some(value.as_i64().context("a number that is none")?)),
        (Kind::Text, serde_json::Value::Null) => Value::Text(None),
        (Kind::Text, value) => Value::Text(Some(value.as_str().context("a text that is none")?.to_owned())),
        (Kind::Bytes, serde_json::Value::Null) => Value::Bytes(None),
        (Kind::Bytes, value) => Value::Bytes(Some(BASE64.decode(value.as_str().context("bytes that are none")?).context("bytes")?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table { name: "t".into(), columns: vec![("a".into(), Kind::Number), ("b".into(), Kind::Text), ("c".into(), Kind::Bytes)] }
    }

    #[test]
    fn what_was_written_is_read_and_a_cut_is_noticed() {
        let head = Head::new(Timestamp(7), "id".into(), 3, 4);
        let mut writer = Writer::begin(&head).unwrap();
        writer.file(KeptFile::new("ca.pem".into(), 0o644, b"pem")).unwrap();
        writer.table(&table()).unwrap();
        let rows = [
            vec![Value::Number(Some(i64::MIN)), Value::Text(Some("\n\"ğ".into())), Value::Bytes(Some(vec![0, 255]))],
            vec![Value::Number(None), Value::Text(None), Value::Bytes(None)],
        ];
        rows.iter().for_each(|row| writer.row(row).unwrap());
        assert_eq!(writer.end_table().unwrap(), 2);
        let bytes = writer.end().unwrap();

        let (mut reader, read) = Reader::begin(&bytes).unwrap();
        assert_eq!(read, head);
        let Piece::File(file) = reader.piece().unwrap() else { panic!("no file") };
        assert_eq!((file.name.as_str(), file.bytes().unwrap()), ("ca.pem", b"pem".to_vec()));
        let Piece::Table(read) = reader.piece().unwrap() else { panic!("no table") };
        assert_eq!(read, table());
        for row in &rows {
            let Piece::Row(read) = reader.piece().unwrap() else { panic!("no row") };
            assert_eq!(&read, row);
        }
        assert!(matches!(reader.piece().unwrap(), Piece::End));

        // Wherever it is cut, its end is never seen: so little is one block, of which a cut one gives nothing at all.
        for length in 0..bytes.len() {
            let ended = Reader::begin(&bytes[..length]).and_then(|(mut cut, _)| {
                loop {
                    if matches!(cut.piece()?, Piece::End) {
                        return Ok(());
                    }
                }
            });
            assert!(ended.is_err(), "cut at {length} of {}", bytes.len());
        }
    }
}
