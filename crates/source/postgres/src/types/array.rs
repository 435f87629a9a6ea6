//! One-dimensional arrays in the server's two forms, element by element.
//!
//! Other shapes are valid in PostgreSQL and unrepresentable here.
use super::BadValue;

const SHAPE: BadValue =
    BadValue::Unrepresentable("an array that is not one-dimensional with lower bound 1");
const NOT_AN_ARRAY: BadValue = BadValue::Malformed("not an array in the server's form");

/// Calls `each` for every element of an array's output text whose delimiter is a comma; `None` is NULL.
pub(super) fn text<E>(text: &[u8], scratch: &mut Vec<u8>, mut each: E) -> Result<(), BadValue>
where
    E: FnMut(Option<&[u8]>) -> Result<(), BadValue>,
{
    let mut rest = match text {
        b"{}" => return Ok(()),
        [b'[', ..] => return Err(SHAPE),
        [b'{', rest @ ..] => rest,
        _ => return Err(NOT_AN_ARRAY),
    };
    loop {
        rest = match rest {
            [b'{', ..] => return Err(SHAPE),
            [b'"', quoted @ ..] => {
                let rest = unquote(quoted, scratch)?;
                each(Some(scratch))?;
                rest
            }
            _ => {
                let end = memchr::memchr2(b',', b'}', rest).filter(|end| *end > 0);
                let (element, rest) = rest.split_at(end.ok_or(NOT_AN_ARRAY)?);
                each((element != b"NULL").then_some(element))?;
                rest
            }
        };
        match rest {
            [b',', next @ ..] => rest = next,
            b"}" => return Ok(()),
            _ => return Err(NOT_AN_ARRAY),
        }
    }
}

/// Puts what stands before the closing quote into `out`; returns what stands behind it.
fn unquote<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], BadValue> {
    out.clear();
    loop {
        let stop = memchr::memchr2(b'"', b'\\', text).ok_or(NOT_AN_ARRAY)?;
        out.extend_from_slice(&text[..stop]);
        match &text[stop..] {
            [b'"', rest @ ..] => return Ok(rest),
            [_, escaped, rest @ ..] => {
                out.push(*escaped);
                text = rest;
            }
            _ => return Err(NOT_AN_ARRAY),
        }
    }
}

/// Calls `each` for every element of an array's binary form; `None` is NULL.
pub(super) fn binary<E>(bytes: &[u8], mut each: E) -> Result<(), BadValue>
where
    E: FnMut(Option<&[u8]>) -> Result<(), BadValue>,
{
    let mut rest = bytes;
    let dimensions = word(&mut rest)?;
    let (_has_null, _element_type) = (word(&mut rest)?, word(&mut rest)?);
    if dimensions == 0 {
        return if rest.is_empty() { Ok(()) } else { Err(NOT_AN_ARRAY) };
    }
    let (length, lower_bound) = (word(&mut rest)?, word(&mut rest)?);
    if dimensions != 1 || lower_bound != 1 {
        return Err(SHAPE);
    }
    for _ in 0..length {
        match word(&mut rest)? {
            -1 => each(None)?,
            size => {
                let size = usize::try_from(size).map_err(|_| NOT_AN_ARRAY)?;
                let (element, behind) = rest.split_at_checked(size).ok_or(NOT_AN_ARRAY)?;
                each(Some(element))?;
                rest = behind;
            }
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(NOT_AN_ARRAY) }
}

fn word(bytes: &mut &[u8]) -> Result<i32, BadValue> {
    let (word, rest) = bytes.split_first_chunk::<4>().ok_or(NOT_AN_ARRAY)?;
    *bytes = rest;
    Ok(i32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(input: &str) -> Result<Vec<Option<String>>, BadValue> {
        let mut out = Vec::new();
        text(input.as_bytes(), &mut Vec::new(), |element| {
            out.push(element.map(|e| String::from_utf8(e.to_vec()).unwrap()));
            Ok(())
        })
        .map(|()| out)
    }

    #[test]
    fn elements_come_unquoted() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(elements("{}"), Ok(vec![]));
        assert_eq!(elements("{1,NULL,3}"), Ok(vec![some("1"), None, some("3")]));
        assert_eq!(
            elements(r#"{"","NULL","a,b","}\"\\",x}"#),
            Ok(vec![some(""), some("NULL"), some("a,b"), some("}\"\\"), some("x")])
        );
    }

    #[test]
    fn other_shapes_are_unrepresentable_and_garbage_is_malformed() {
        assert_eq!(elements("{{1},{2}}"), Err(SHAPE));
        assert_eq!(elements("[2:3]={1,2}"), Err(SHAPE));
        for bad in ["", "{", "{1", "{1,", "{,}", "{1}}", "{\"a", "{\"a\\", "1", "{\"a\"b}"] {
            assert_eq!(elements(bad), Err(NOT_AN_ARRAY), "{bad}");
        }
    }

    #[test]
    fn a_cut_binary_array_is_malformed() {
        let mut whole = Vec::new();
        for word in [1i32, 1, 23, 2, 1, 4, 7, -1] {
            whole.extend(word.to_be_bytes());
        }
        let count = |bytes: &[u8]| {
            let mut count = 0;
            binary(bytes, |_| {
                count += 1;
                Ok(())
            })
            .map(|()| count)
        };
        assert_eq!(count(&whole), Ok(2));
        for end in 0..whole.len() {
            assert_eq!(count(&whole[..end]), Err(NOT_AN_ARRAY), "{end}");
        }
        whole[19] = 2;
        assert_eq!(count(&whole), Err(SHAPE));
    }
}
