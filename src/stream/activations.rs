//! Where a group's activations and deltas wait between visits: on the device while they fit, in host memory otherwise.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use crate::Result;
use crate::device::{Buffer, Device, Download, Lease};

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
    /// The last that went to the host and may still be on its way.
    leaving: Option<Rc<HostCopy>>,
}

#[derive(Debug)]
enum Stored {
    Device(Buffer),
    Host(Rc<HostCopy>),
}

/// A buffer's numbers on the host, or on their way there.
#[derive(Debug)]
struct HostCopy(RefCell<Arriving>);

#[derive(Debug)]
enum Arriving {
    Here(Rc<Vec<f32>>),
    Coming(Option<Download<f32>>),
}

impl HostCopy {
    fn here(values: Vec<f32>) -> Rc<Self> {
        Rc::new(HostCopy(RefCell::new(Arriving::Here(Rc::new(values)))))
    }

    fn coming(download: Download<f32>) -> Rc<Self> {
        Rc::new(HostCopy(RefCell::new(Arriving::Coming(Some(download)))))
    }

    /// The numbers, after waiting for them if need be.
    fn values(&self) -> Result<Rc<Vec<f32>>> {
        let mut arriving = self.0.borrow_mut();
        let values = match &mut *arriving {
            Arriving::Here(values) => return Ok(values.clone()),
            Arriving::Coming(download) => download.take().map_or(Ok(Vec::new()), Download::finish)?,
        };
        let values = Rc::new(values);
        *arriving = Arriving::Here(values.clone());
        Ok(values)
    }
}

/// What a shelf held for a chunk when it was asked, to be looked at later.
#[derive(Debug)]
pub struct Later(Source);

#[derive(Debug)]
enum Source {
    Nothing,
    Device(Download<f32>),
    Host(Rc<HostCopy>),
}

impl Later {
    /// The numbers, after waiting for them if need be; none where nothing was stored.
    pub fn finish(self) -> Result<Vec<f32>> {
        match self.0 {
            Source::Nothing => Ok(Vec::new()),
            Source::Device(download) => download.finish(),
            Source::Host(copy) => copy.values().map(|values| values.to_vec()),
        }
    }
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
        Shelf { place, slots: (0..chunks).map(|_| None).collect(), leaving: None }
    }

    /// A new buffer of `floats`, to be filled and then [`put`](Shelf::put); its content is arbitrary.
    pub fn fresh(&self, device: &Device, floats: usize) -> Result<Held> {
        let bytes = floats as u64 * 4;
        match self.place {
            Place::Device => Ok(Held::Kept(device.allocate(bytes)?)),
            Place::Host => Ok(Held::Copy(device.scratch(bytes)?)),
        }
    }

    /// Stores the `floats` numbers of a chunk's buffer, as recorded work leaves them. Of those that go to the host, the last
    /// may still be on its way.
    pub fn put(&mut self, device: &Device, chunk: usize, held: Held, floats: usize) -> Result<()> {
        self.slots[chunk] = Some(match held {
            Held::Kept(buffer) => Stored::Device(buffer),
            Held::Copy(lease) => {
                let copy = HostCopy::coming(device.read_later(&lease, floats)?);
                if let Some(before) = self.leaving.replace(copy.clone()) {
                    before.values()?;
                }
                Stored::Host(copy)
            }
        });
        Ok(())
    }

    /// The buffer of a chunk; none where nothing was stored.
    pub fn get(&self, device: &Device, chunk: usize) -> Result<Option<Held>> {
        match &self.slots[chunk] {
            None => Ok(None),
            Some(Stored::Device(buffer)) => Ok(Some(Held::Kept(buffer.clone()))),
            Some(Stored::Host(copy)) => {
                let values = copy.values()?;
                let lease = device.scratch(values.len() as u64 * 4)?;
                device.upload(&lease, 0, bytemuck::cast_slice(&values))?;
                Ok(Some(Held::Copy(lease)))
            }
        }
    }

    /// A chunk's numbers as they are now, on the host in a while.
    pub fn later(&self, device: &Device, chunk: usize) -> Result<Later> {
        Ok(Later(match &self.slots[chunk] {
            None => Source::Nothing,
            Some(Stored::Device(buffer)) => Source::Device(device.read_later(buffer, buffer.bytes() as usize / 4)?),
            Some(Stored::Host(copy)) => Source::Host(copy.clone()),
        }))
    }

    /// Stores numbers from the host.
    pub fn write(&mut self, device: &Device, chunk: usize, values: &[f32]) -> Result<()> {
        self.slots[chunk] = Some(match self.place {
            Place::Device => Stored::Device(device.upload_new(values)?),
            Place::Host => Stored::Host(HostCopy::here(values.to_vec())),
        });
        Ok(())
    }

    /// Lets everything go.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = None);
        self.leaving = None;
    }
}
