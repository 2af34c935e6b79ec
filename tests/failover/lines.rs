use crate::world::Room;

pub(crate) const ROOM: Room = Room {
    name: "lines",
    own: None,
    scenarios: &[],
};
