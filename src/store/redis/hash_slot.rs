//! The hash slots of Redis Cluster: which slot a key and a command belong to.

use redis::Cmd;

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// The generator polynomial of the checksum CRC-16/XMODEM.
const POLYNOMIAL: u16 = 0x1021;

/// Returns the slot of a key: that of the text in the first braces, if there is some.
pub(crate) fn slot_of_key(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let length = rest.iter().position(|&byte| byte == b'}')?;
        (length > 0).then_some(&rest[..length])
    });
    checksum(tag.unwrap_or(key)) % SLOTS
}

fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, &byte| {
        (0..8).fold(sum ^ (u16::from(byte) << 8), |sum, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ POLYNOMIAL }
        })
    })
}

/// Returns the slot of a command of this store. `None` if it has no key.
pub(crate) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|word| match word {
        redis::Arg::Simple(bytes) => bytes,
        _ => b"",
    });
    let key = match words.next()? {
        b"PING" | b"INFO" | b"SCRIPT" | b"CLIENT" | b"WAIT" | b"ROLE" => return None,
        b"EVALSHA" => {
            let _script = words.next();
            if words.next()? == b"0" {
                return None;
            }
            words.next()?
        }
        _ => words.next()?,
    };
    Some(slot_of_key(key))
}

#[cfg(test)]
mod tests {
    use super::super::connection::command;
    use super::super::layout;
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(checksum(b"123456789"), 0x31C3);
        assert_eq!(slot_of_key(b"foo"), 12_182);
        assert_eq!(slot_of_key(b"{foo}.bar"), slot_of_key(b"foo"));
        assert_eq!(slot_of_key(b"{}foo"), checksum(b"{}foo") % SLOTS);
        assert_eq!(slot_of_key(b"{foo"), checksum(b"{foo") % SLOTS);
        for key in ["requests_total", "app-requests_total"] {
            assert_eq!(slot_of_key(layout::writers_key(key).as_bytes()), slot_of_key(key.as_bytes()));
        }
    }

    #[test]
    fn the_key_of_a_command_is_found() {
        let foo = Some(12_182);
        assert_eq!(slot_of(&command("GET", &["foo"])), foo);
        assert_eq!(slot_of(&command("HSET", &["foo", "a", "b"])), foo);
        assert_eq!(slot_of(&command("EVALSHA", &["abc", "2", "foo", "{foo}:writers"])), foo);
        assert_eq!(slot_of(&command("EVALSHA", &["abc", "0"])), None);
        assert_eq!(slot_of(&command("INFO", &["server"])), None);
    }
}
