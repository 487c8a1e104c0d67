//! Where a group's activations and deltas wait between visits: on the device while they fit, in host memory otherwise.

use std::ops::Deref;

use crate::Result;
use crate::device::{Buffer, Device, Lease};

/// Where a shelf keeps its things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the device.
    Device,
    /// In host memory.
    Host,
}

/// A `[tokens, width]` buffer for each chunk of a group.
#[derive(Debug)]
pub struct Shelf {
    place: Place,
    slots: Vec<Option<Stored>>,
}

#[derive(Debug)]
enum Stored {
    Device(Buffer),
    Host(Vec<f32>),
}

/// A buffer in use: the stored one itself, or a scratch buffer with a copy of it.
#[derive(Debug)]
pub enum Held {
    /// Stays on the device.
    Kept(Buffer),
    /// Goes to host memory when it is put back.
    Copy(Lease),
}

impl Deref for Held {
    type Target = Buffer;
    fn deref(&self) -> &Buffer {
        match self {
            Held::Kept(buffer) => buffer,
            Held::Copy(lease) => lease,
        }
    }
}

impl Shelf {
    /// Room for the buffers of `chunks` chunks.
    pub fn new(place: Place, chunks: usize) -> Self {
        Shelf { place, slots: (0..chunks).map(|_| None).collect() }
    }

    /// A new buffer of `floats`, to be filled and then [`put`](Shelf::put); its content is arbitrary.
    pub fn fresh(&self, device: &Device, floats: usize) -> Result<Held> {
        let bytes = floats as u64 * 4;
        match self.place {
            Place::Device => Ok(Held::Kept(device.allocate(bytes)?)),
            Place::Host => Ok(Held::Copy(device.scratch(bytes)?)),
        }
    }

    /// Stores the `floats` numbers of a chunk's buffer.
    pub fn put(&mut self, device: &Device, chunk: usize, held: Held, floats: usize) -> Result<()> {
        self.slots[chunk] = Some(match held {
            Held::Kept(buffer) => Stored::Device(buffer),
            Held::Copy(lease) => Stored::Host(device.read(&lease, floats)?),
        });
        Ok(())
    }

    /// The buffer of a chunk; none where nothing was stored.
    pub fn get(&self, device: &Device, chunk: usize) -> Result<Option<Held>> {
        match &self.slots[chunk] {
            None => Ok(None),
            Some(Stored::Device(buffer)) => Ok(Some(Held::Kept(buffer.clone()))),
            Some(Stored::Host(values)) => {
                let lease = device.scratch(values.len() as u64 * 4)?;
                device.upload(&lease, 0, bytemuck::cast_slice(values))?;
                Ok(Some(Held::Copy(lease)))
            }
        }
    }

    /// A chunk's numbers, on the host.
    pub fn read(&self, device: &Device, chunk: usize) -> Result<Vec<f32>> {
        match &self.slots[chunk] {
            None => Ok(Vec::new()),
            Some(Stored::Device(buffer)) => device.read(buffer, buffer.bytes() as usize / 4),
            Some(Stored::Host(values)) => Ok(values.clone()),
        }
    }

    /// Stores numbers from the host.
    pub fn write(&mut self, device: &Device, chunk: usize, values: &[f32]) -> Result<()> {
        self.slots[chunk] = Some(match self.place {
            Place::Device => Stored::Device(device.upload_new(values)?),
            Place::Host => Stored::Host(values.to_vec()),
        });
        Ok(())
    }

    /// Lets everything go.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = None);
    }
}
