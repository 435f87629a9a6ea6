//! Network addresses as MariaDB writes them.
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Appends an IPv6 address: its longest run of zero groups becomes `::`; addresses that hold an IPv4 address end in it.
pub(super) fn inet6(bytes: [u8; 16], out: &mut String) {
    let mut groups = [0u16; 8];
    for (group, pair) in groups.iter_mut().zip(bytes.chunks_exact(2)) {
        *group = u16::from_be_bytes([pair[0], pair[1]]);
    }
    let (start, length) = longest_zeros(&groups);
    let mapped = (start, length) == (0, 5) && groups[5] == 0xffff;
    if (start, length) == (0, 6) || mapped {
        let [.., a, b, c, d] = bytes;
        let prefix = if mapped { "::ffff:" } else { "::" };
        let _ = write!(out, "{prefix}{}", Ipv4Addr::new(a, b, c, d));
        return;
    }
    let mut index = 0;
    while index < groups.len() {
        if length > 1 && index == start {
            out.push_str(if index == 0 { "::" } else { ":" });
            index += length;
            continue;
        }
        let _ = write!(out, "{:x}", groups[index]);
        index += 1;
        if index < groups.len() {
            out.push(':');
        }
    }
}

/// Where the first of the longest runs of at least two zeros begins, and its length.
fn longest_zeros(groups: &[u16; 8]) -> (usize, usize) {
    let mut best = (0, 0);
    let mut run = 0;
    for (index, group) in groups.iter().enumerate() {
        run = if *group == 0 { run + 1 } else { 0 };
        if run > best.1 {
            best = (index + 1 - run, run);
        }
    }
    if best.1 > 1 { best } else { (0, 0) }
}

/// Appends an IPv4 address.
pub(super) fn inet4(bytes: [u8; 4], out: &mut String) {
    let _ = write!(out, "{}", Ipv4Addr::from(bytes));
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn addresses_are_written_as_the_server_does() {
        for (given, expected) in [
            ("::", "::"),
            ("::1", "::1"),
            ("1::", "1::"),
            ("2001:db8::ff00:42:8329", "2001:db8::ff00:42:8329"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ] {
            let mut out = String::new();
            inet6(given.parse::<Ipv6Addr>().unwrap().octets(), &mut out);
            assert_eq!(out, expected);
        }
    }
}
