//! Files whose bytes are summed as they pass.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::Sum;

/// Around a file that is read or written.
#[derive(Debug)]
pub(super) struct Summed<F> {
    file: F,
    sum: Sum,
}

impl Summed<BufWriter<File>> {
    pub(super) fn new(file: File) -> Self {
        Self { file: BufWriter::new(file), sum: Sum::default() }
    }

    pub(super) fn finish(mut self) -> io::Result<Sum> {
        self.file.flush()?;
        Ok(self.sum)
    }
}

impl Summed<BufReader<File>> {
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(file)?), sum: Sum::default() })
    }

    /// Of what was read.
    pub(super) fn sum(&self) -> Sum {
        self.sum
    }
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
    }
}

impl<F: Write> Write for Summed<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<F: Read> Read for Summed<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.sum.add(&buffer[..read]);
        Ok(read)
    }
}

pub(super) fn sum_of(file: &Path) -> io::Result<Sum> {
    let mut summed = Summed::open(file)?;
    io::copy(&mut summed, &mut io::sink())?;
    Ok(summed.sum())
}

/// Makes all that is in a directory durable, itself last.
pub(super) fn sync_all_in(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all_in(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}
