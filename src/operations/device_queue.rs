//! The devices of a page of a list over all devices, and the progress of their reads.

use std::collections::VecDeque;

use super::device_read::DeviceRead;
use crate::{
    name::DeviceName,
    policy::{Permit, action::List},
};

/// The maximum number of slow devices whose reads do not count against the maximum of reads at once.
const MAX_SLOW: usize = 16;

/// The devices that are not finished, in the order in which they are listed.
///
/// The devices whose reads were started precede all others. A slow device lets the devices behind it pass.
pub(super) struct DeviceQueue {
    devices: VecDeque<QueuedDevice>,
    /// The number of reads that were started.
    started: usize,
}

struct QueuedDevice {
    permit: Permit<List>,
    progress: Progress,
}

/// The progress of a device's read. A read has the number of the reads that were started before it.
enum Progress {
    NotStarted,
    InFlight(usize),
    /// The read is in flight, and a response takes long.
    Slow(usize),
    Ended(DeviceRead),
}

impl DeviceQueue {
    pub(super) fn new(devices: Vec<Permit<List>>) -> Self {
        let queued = |permit| QueuedDevice { permit, progress: Progress::NotStarted };
        Self { devices: devices.into_iter().map(queued).collect(), started: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// The first device.
    pub(super) fn first(&self) -> Option<&DeviceName> {
        self.devices.front().map(|device| device.permit.resource())
    }

    /// The number of slow devices.
    pub(super) fn slow(&self) -> usize {
        self.devices.iter().filter(|device| device.is_slow()).count()
    }

    /// Starts the read of the next device if fewer than `max` reads are in flight or not listed yet. Returns the number of
    /// the read. At most [`MAX_SLOW`] slow devices are not counted.
    pub(super) fn start_next(&mut self, max: usize) -> Option<(usize, Permit<List>)> {
        let slow = self.slow();
        let position = self.devices.iter().position(|device| matches!(device.progress, Progress::NotStarted));
        let next = position.filter(|started| started - slow.min(MAX_SLOW) < max)?;
        let (number, device) = (self.started, self.devices.get_mut(next)?);
        device.progress = Progress::InFlight(number);
        self.started += 1;
        Some((number, device.permit.clone()))
    }

    /// Records that a response of this read takes long.
    pub(super) fn set_slow(&mut self, number: usize) {
        if let Some(progress) = self.in_flight(number) {
            *progress = Progress::Slow(number);
        }
    }

    /// Records the end of this read.
    pub(super) fn end(&mut self, number: usize, read: DeviceRead) {
        if let Some(progress) = self.in_flight(number) {
            *progress = Progress::Ended(read);
        }
    }

    fn in_flight(&mut self, number: usize) -> Option<&mut Progress> {
        let mut progress = self.devices.iter_mut().map(|device| &mut device.progress);
        progress
            .find(|progress| matches!(progress, Progress::InFlight(of) | Progress::Slow(of) if *of == number))
    }

    /// Takes the read of the first device if the read has ended. If `may_pass_slow`, takes that of the first device that is
    /// not slow, which becomes the first device.
    pub(super) fn take_first_ended(&mut self, may_pass_slow: bool) -> Option<DeviceRead> {
        let is_passed = |device: &&QueuedDevice| may_pass_slow && device.is_slow();
        let position = self.devices.iter().take_while(is_passed).count();
        if !matches!(self.devices.get(position)?.progress, Progress::Ended(_)) {
            return None;
        }
        let QueuedDevice { permit, progress } = self.devices.remove(position)?;
        self.devices.push_front(QueuedDevice { permit, progress: Progress::NotStarted });
        match progress {
            Progress::Ended(read) => Some(read),
            _ => None,
        }
    }

    /// Removes the first device, which is finished.
    pub(super) fn finish_first(&mut self) {
        self.devices.pop_front();
    }

    /// Whether no read is in flight or not listed yet, except for those of slow devices.
    pub(super) fn has_only_slow_reads(&self) -> bool {
        self.devices.iter().all(|device| matches!(device.progress, Progress::NotStarted | Progress::Slow(_)))
    }

    /// The devices that are not finished, for the next page. The slow ones are last, but a first device of which a part was
    /// read stays first.
    pub(super) fn into_rest(mut self, is_first_read_partly: bool) -> VecDeque<DeviceName> {
        let devices = self.devices.make_contiguous();
        if let Some(movable) = devices.get_mut(usize::from(is_first_read_partly)..) {
            movable.sort_by_key(QueuedDevice::is_slow);
        }
        self.devices.into_iter().map(|device| device.permit.resource().clone()).collect()
    }
}

impl QueuedDevice {
    fn is_slow(&self) -> bool {
        matches!(self.progress, Progress::Slow(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::{caller::Caller, operations::device_read::ReadEnd, policy::Policy};

    /// A queue of this many devices: `0`, `1` and so on.
    fn queue(devices: usize) -> DeviceQueue {
        let policy = Policy::without_rules();
        let device = |id| DeviceName::parse(&format!("enterprises/LC01/devices/d{id}")).expect("a name");
        DeviceQueue::new(policy.decide_parts(&Caller::anonymous(), (0..devices).map(device)))
    }

    fn start(queue: &mut DeviceQueue, max: usize) -> Vec<usize> {
        std::iter::from_fn(|| queue.start_next(max)).map(|(number, _)| number).collect()
    }

    fn end(queue: &mut DeviceQueue, number: usize) {
        queue.end(
            number,
            DeviceRead { batches: Vec::new(), end: ReadEnd::Finished, longest_request: Duration::ZERO },
        );
    }

    /// The device whose read is listed next, which is finished then.
    fn next(queue: &mut DeviceQueue, may_pass_slow: bool) -> Option<String> {
        queue.take_first_ended(may_pass_slow)?;
        let device = queue.first().map(|device| device.device_id().to_owned());
        queue.finish_first();
        device
    }

    fn ids(rest: VecDeque<DeviceName>) -> Vec<String> {
        rest.iter().map(|device| device.device_id().to_owned()).collect()
    }

    #[test]
    fn devices_that_answer_in_time_are_listed_in_their_order() {
        let mut queue = queue(5);
        assert_eq!(start(&mut queue, 3), [0, 1, 2]);
        end(&mut queue, 2);
        end(&mut queue, 1);
        assert_eq!(next(&mut queue, true), None);
        // A read that is not listed yet counts.
        assert_eq!(start(&mut queue, 3), [0; 0]);
        end(&mut queue, 0);
        assert_eq!([0; 3].map(|_| next(&mut queue, true)), ["d0", "d1", "d2"].map(|id| Some(id.to_owned())));
        assert_eq!(start(&mut queue, 3), [3, 4]);
        assert_eq!(ids(queue.into_rest(false)), ["d3", "d4"]);
    }

    #[test]
    fn devices_pass_slow_ones_that_may_be_passed() {
        let mut queue = queue(4);
        assert_eq!(start(&mut queue, 4), [0, 1, 2, 3]);
        queue.set_slow(0);
        queue.set_slow(1);
        end(&mut queue, 3);
        assert_eq!(next(&mut queue, true), None, "d2 may still answer in time");
        end(&mut queue, 2);
        assert_eq!(next(&mut queue, false), None);
        assert_eq!(next(&mut queue, true).as_deref(), Some("d2"));
        end(&mut queue, 1);
        assert!(!queue.has_only_slow_reads());
        assert_eq!(next(&mut queue, true).as_deref(), Some("d1"), "a slow device that answered");
        assert_eq!(next(&mut queue, true).as_deref(), Some("d3"));
        assert!(queue.has_only_slow_reads());
        end(&mut queue, 0);
        queue.set_slow(0);
        assert_eq!(next(&mut queue, false).as_deref(), Some("d0"), "a read that has ended is not slow");
    }

    #[test]
    fn at_most_sixteen_slow_devices_are_read_besides_the_others() {
        let mut queue = queue(100);
        for number in 0..16 {
            assert_eq!(start(&mut queue, 1), [number]);
            queue.set_slow(number);
        }
        assert_eq!(start(&mut queue, 2), [16, 17]);
        queue.set_slow(16);
        assert_eq!((start(&mut queue, 2), queue.slow()), (vec![], 17));
    }

    #[test]
    fn the_next_page_has_the_slow_devices_last_but_a_device_that_was_read_partly_first() {
        for (is_first_read_partly, rest) in
            [(false, ["d1", "d3", "d0", "d2"]), (true, ["d0", "d1", "d3", "d2"])]
        {
            let mut queue = queue(4);
            start(&mut queue, 3);
            queue.set_slow(0);
            queue.set_slow(2);
            assert_eq!(ids(queue.into_rest(is_first_read_partly)), rest);
        }
        assert_eq!(ids(queue(0).into_rest(true)), [""; 0]);
    }
}
