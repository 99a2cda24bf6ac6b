//! A disk in memory that survives its store, and fails on demand.
//!
//! Tests and the simulator run the real store on it: they cut its power, fill it, make its syncs fail and
//! turn its bits. All of it follows from seeds and counts that the caller passes in; it has no clock and no
//! randomness of its own.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::crash::{Dice, Image};
use super::{Disk, DiskFile, DiskLock, FileIdentity, LockError};

/// What goes wrong on a [`MemDisk`]. By default nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// After this many more syncs, every sync fails with an input/output error.
    pub syncs_until_error: Option<u64>,
    /// After this many more bytes, every write and every change of a file's length fails because the disk is full:
    /// where files are copied on write, even cutting one takes room.
    pub bytes_until_full: Option<u64>,
    /// Every change fails because the disk is read-only.
    pub is_read_only: bool,
    /// After this many more changes (writes, resizes, syncs, renames), everything fails until
    /// [`MemDisk::crash`]: the power is gone.
    pub changes_until_power_cut: Option<u64>,
}

/// Files in memory. Clones are the same disk; it outlives the stores that are opened on it.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, u64>,
    images: BTreeMap<u64, Image>,
    /// How often each file is open. One without a name is there as long as it is.
    handles: BTreeMap<u64, usize>,
    files_made: u64,
    /// Counts restarts; a handle or lock of an earlier one is dead.
    life: u64,
    /// Another one on every copy.
    device: u64,
    is_locked: bool,
    faults: Faults,
    changes: u64,
    syncs: u64,
    written_bytes: u64,
}

impl MemDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power and switches it on again: handles and lock are dead, faults are gone, and each sector
    /// that was written but not synced is as it was at some moment since its last sync; `seed` decides.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        let mut dice = Dice::new(seed);
        state.images.values_mut().for_each(|image| image.cut_power(&mut dice));
        state.restart();
    }

    /// Ends the process that has the disk open, as `kill -9` does: handles and lock are dead, faults are gone,
    /// all writes stay.
    pub fn kill(&self) {
        let mut state = self.state();
        state.images.values_mut().for_each(Image::keep_all);
        state.restart();
    }

    /// What somebody has who copies the files as they are read now: the same bytes in other files.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = self.imaged();
        copy.state().device += 1;
        copy
    }

    /// What somebody has who takes an image of the whole disk: nothing tells its files from these.
    #[must_use]
    pub fn imaged(&self) -> Self {
        let state = self.state();
        let image = Self::new();
        {
            let mut new = image.state();
            (new.names, new.files_made) = (state.names.clone(), state.files_made);
            (new.device, new.life) = (state.device, state.life);
            let named = state.names.values().map(|id| (*id, state.images[id].copied()));
            new.images = named.collect();
        }
        image
    }

    /// Replaces what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Whether its power is gone, since as many changes were made as a fault allows.
    pub fn is_off(&self) -> bool {
        self.state().has_power().is_err()
    }

    /// Does what no planned power cut is to strike: whoever watches a store may have it write, and would meet the cut in
    /// its place.
    pub fn unstruck<T>(&self, then: impl FnOnce() -> T) -> T {
        let is_planned = |changes: &mut u64| *changes > 0;
        let planned = self.state().faults.changes_until_power_cut.take_if(is_planned);
        let result = then();
        if planned.is_some() {
            self.state().faults.changes_until_power_cut = planned;
        }
        result
    }

    /// Turns one bit of a file, on the disk and in its cache.
    ///
    /// # Panics
    /// If there is no such byte: a test that flips nothing would prove nothing.
    pub fn flip_bit(&self, name: &str, byte: u64, bit: u8) {
        let mut state = self.state();
        let id = state.names[name];
        let byte = usize::try_from(byte).expect("a file in memory fits into memory");
        state.images.get_mut(&id).expect("a name has an image").flip_bit(byte, bit);
    }

    /// The length of a file in bytes; 0 when there is none.
    pub fn size(&self, name: &str) -> u64 {
        let state = self.state();
        state.names.get(name).map_or(0, |id| state.images[id].bytes().len() as u64)
    }

    /// The bytes of a file as they are read now; empty when there is none.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.names.get(name).map_or_else(Vec::new, |id| state.images[id].bytes().to_vec())
    }

    /// Makes or replaces a file, synced.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let id = state.id(name);
        let image = state.images.entry(id).or_default();
        image.resize(0);
        image.write(0, bytes);
        image.sync();
    }

    /// The names of the files.
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// The number of syncs since the disk was made.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The bytes of all writes since the disk was made.
    pub fn written_bytes(&self) -> u64 {
        self.state().written_bytes
    }

    /// The number of changes (writes, resizes, syncs, renames) since the disk was made.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl State {
    fn restart(&mut self) {
        self.life += 1;
        self.is_locked = false;
        self.faults = Faults::default();
        self.handles.clear();
        let names = &self.names;
        self.images.retain(|id, _| names.values().any(|named| named == id));
    }

    /// Lets go of a file that has no name any more, once nobody has it open.
    fn forget_unused(&mut self, id: u64) {
        let is_named = self.names.values().any(|named| *named == id);
        if !is_named && !self.handles.contains_key(&id) {
            self.images.remove(&id);
        }
    }

    fn id(&mut self, name: &str) -> u64 {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        self.files_made += 1;
        self.names.insert(name.to_owned(), self.files_made);
        self.files_made
    }

    fn has_power(&self) -> io::Result<()> {
        match self.faults.changes_until_power_cut {
            Some(0) => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }

    /// Counts a change of `bytes` new bytes, or refuses it.
    fn change(&mut self, bytes: u64) -> io::Result<()> {
        self.has_power()?;
        if self.faults.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if let Some(left) = &mut self.faults.bytes_until_full {
            let fits = *left >= bytes;
            *left = left.saturating_sub(bytes);
            if !fits {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        if let Some(left) = &mut self.faults.changes_until_power_cut {
            *left -= 1;
        }
        self.changes += 1;
        self.written_bytes += bytes;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.change(0)?;
        self.syncs += 1;
        match &mut self.faults.syncs_until_error {
            Some(0) => Err(io::Error::other("the disk did not take the sync")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk for MemDisk {
    fn lock(&self) -> Result<DiskLock, LockError> {
        let mut state = self.state();
        if state.is_locked {
            return Err(LockError::Held { place: "this memory".to_owned() });
        }
        state.is_locked = true;
        Ok(DiskLock::holding(HeldLock { disk: self.clone(), life: state.life }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.state().names.contains_key(name))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.has_power()?;
        let id = state.id(name);
        state.images.entry(id).or_default();
        *state.handles.entry(id).or_default() += 1;
        Ok(Box::new(Handle { disk: self.clone(), id, life: state.life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change(0)?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(replaced) = state.names.insert(to.to_owned(), id) {
            state.forget_unused(replaced);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change(0)?;
        if let Some(id) = state.names.remove(name) {
            state.forget_unused(id);
        }
        Ok(())
    }

    fn identity(&self, name: &str) -> io::Result<Option<FileIdentity>> {
        let state = self.state();
        state.has_power()?;
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Some(FileIdentity { device: state.device, inode, born_ns: None }))
    }

    fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

struct HeldLock {
    disk: MemDisk,
    life: u64,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.is_locked = false;
        }
    }
}

#[derive(Debug)]
struct Handle {
    disk: MemDisk,
    id: u64,
    life: u64,
}

impl Handle {
    /// A handle from before a crash must not write into the life after it.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life != self.life || !state.images.contains_key(&self.id) {
            return Err(io::Error::other("the file was open when the disk was restarted"));
        }
        Ok(state)
    }

    fn image<'a>(&self, state: &'a mut State) -> &'a mut Image {
        state.images.get_mut(&self.id).expect("alive() saw it")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life != self.life {
            return;
        }
        if let Some(count) = state.handles.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.handles.remove(&self.id);
            }
        }
        state.forget_unused(self.id);
    }
}

impl DiskFile for Handle {
    fn size(&self) -> io::Result<u64> {
        let state = self.alive()?;
        state.has_power()?;
        Ok(state.images[&self.id].bytes().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.alive()?;
        state.has_power()?;
        let bytes = state.images[&self.id].bytes();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let found = bytes.get(offset..offset.saturating_add(out.len()));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.alive()?;
        state.change(bytes.len() as u64)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.image(&mut state).write(offset, bytes);
        Ok(())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        state.change(0)?;
        if state.faults.bytes_until_full == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        self.image(&mut state).resize(length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        state.sync()?;
        self.image(&mut state).sync();
        Ok(())
    }
}
