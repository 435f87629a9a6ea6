//! Random values against a plain model, and random bytes against panics. A failing run prints its seed.
use arrow_array::Array;
use arrow_schema::{DataType, Field, TimeUnit};

use super::{ColumnBuilder, render};

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn digits(&mut self, most: u64) -> String {
        (0..=self.below(most)).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }
}

fn seed() -> u64 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    seed.unwrap_or(nanos.map_or(1, |n| n.as_nanos() as u64))
}

fn types() -> Vec<DataType> {
    let micros = TimeUnit::Microsecond;
    let scalars = vec![
        DataType::Boolean,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(12, 2),
        DataType::Decimal128(38, 38),
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Time64(micros),
        DataType::Timestamp(micros, None),
        DataType::Timestamp(micros, Some("UTC".into())),
        DataType::FixedSizeBinary(16),
    ];
    let list = |t: &DataType| DataType::List(Field::new("element", t.clone(), true).into());
    let lists: Vec<_> = scalars.iter().map(list).collect();
    scalars.into_iter().chain(lists).collect()
}

/// The server's binary form of a numeric, built digit by digit from its text.
fn numeric_binary(negative: bool, whole: &str, fraction: &str) -> Vec<u8> {
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let fraction_padded = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let mut groups: Vec<u16> = (whole.clone() + &fraction_padded)
        .as_bytes()
        .chunks(4)
        .map(|group| std::str::from_utf8(group).unwrap().parse().unwrap())
        .collect();
    let mut weight = (whole.len() / 4) as i16 - 1;
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let sign: u16 = if negative { 0x4000 } else { 0 };
    let mut bytes = Vec::new();
    bytes.extend((groups.len() as u16).to_be_bytes());
    bytes.extend(weight.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend((fraction.len() as u16).to_be_bytes());
    groups.iter().for_each(|group| bytes.extend(group.to_be_bytes()));
    bytes
}

#[test]
fn numerics_of_both_forms_are_one_and_render_back() {
    let seed = seed();
    let mut random = Random(seed);
    for round in 0..20_000 {
        let scale = random.below(12) as i8;
        let mut decimal = ColumnBuilder::new(&DataType::Decimal128(38, scale), false).unwrap();
        let whole = random.digits(38 - scale as u64 - 1);
        let whole = match whole.trim_start_matches('0') {
            "" => "0",
            trimmed => trimmed,
        };
        let fraction: String =
            (0..scale).map(|_| char::from(b'0' + random.below(10) as u8)).collect();
        let zero = (whole.to_owned() + &fraction).bytes().all(|b| b == b'0');
        let negative = random.below(2) == 1 && !zero;
        let point = if scale > 0 { "." } else { "" };
        let text = format!("{}{whole}{point}{fraction}", if negative { "-" } else { "" });
        let context = format!("SEED={seed} round {round}: {text}");
        decimal.push_text(text.as_bytes()).expect(&context);
        decimal.push_binary(&numeric_binary(negative, whole, &fraction)).expect(&context);
        let array = decimal.finish().unwrap();
        assert_eq!(array.slice(0, 1).to_data(), array.slice(1, 1).to_data(), "{context}");
        let mut back = String::new();
        render(&array, 0, &mut back).unwrap();
        assert_eq!(back, text, "SEED={seed}");
    }
}

#[test]
fn moments_of_both_forms_are_one_and_render_back() {
    let seed = seed();
    let mut random = Random(seed);
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    // From the year 1 to 9999, in microseconds since 2000.
    let (least, width) = (-63_082_281_600_000_000i64, 315_537_897_600_000_000u64);
    for _ in 0..20_000 {
        let since_2000 = least + random.below(width) as i64;
        let mut column = ColumnBuilder::new(&zoned, false).unwrap();
        column.push_binary(&since_2000.to_be_bytes()).unwrap();
        let array = column.finish().unwrap();
        let mut text = String::new();
        render(&array, 0, &mut text).unwrap();
        column.push_text(text.as_bytes()).expect(&text);
        assert_eq!(column.finish().unwrap().to_data(), array.to_data(), "SEED={seed} {text}");
    }
}

#[test]
fn floats_render_back_to_the_same_bits() {
    let seed = seed();
    let mut random = Random(seed);
    for _ in 0..50_000 {
        let value = f64::from_bits(random.next());
        let mut column = ColumnBuilder::new(&DataType::Float64, false).unwrap();
        column.push_binary(&value.to_be_bytes()).unwrap();
        let array = column.finish().unwrap();
        let mut text = String::new();
        render(&array, 0, &mut text).unwrap();
        column.push_text(text.as_bytes()).expect(&text);
        assert_eq!(column.finish().unwrap().to_data(), array.to_data(), "SEED={seed} {text}");
    }
}

#[test]
fn arrays_of_text_come_back_whatever_their_elements_hold() {
    let seed = seed();
    let mut random = Random(seed);
    let alphabet: Vec<char> = "ab{},\"\\ NULl\n\té🦀'".chars().collect();
    let list = DataType::List(Field::new("element", DataType::Utf8, true).into());
    for _ in 0..20_000 {
        let mut binary = Vec::new();
        let count = random.below(4) as i32;
        let head: &[i32] = if count == 0 { &[0, 0, 25] } else { &[1, 1, 25, count, 1] };
        head.iter().for_each(|word| binary.extend(word.to_be_bytes()));
        for _ in 0..count {
            if random.below(4) == 0 {
                binary.extend((-1i32).to_be_bytes());
                continue;
            }
            let element: String = (0..random.below(6))
                .map(|_| alphabet[random.below(alphabet.len() as u64) as usize])
                .collect();
            binary.extend((element.len() as i32).to_be_bytes());
            binary.extend(element.as_bytes());
        }
        let mut column = ColumnBuilder::new(&list, false).unwrap();
        column.push_binary(&binary).unwrap();
        let array = column.finish().unwrap();
        let mut text = String::new();
        render(&array, 0, &mut text).unwrap();
        column.push_text(text.as_bytes()).expect(&text);
        assert_eq!(column.finish().unwrap().to_data(), array.to_data(), "SEED={seed} {text}");
    }
}

/// Mutated values: each is taken or refused, and the column stays whole.
#[test]
fn no_bytes_make_a_builder_panic_or_lose_count() {
    let seed = seed();
    let mut random = Random(seed);
    let samples: &[&[u8]] = &[
        b"t",
        b"-32768",
        b"1e-5",
        b"-99999.01",
        b"\\xdeadbeef",
        b"2024-02-29",
        b"23:59:59.999999",
        b"2024-02-29 23:59:59.999999+00",
        b"0044-03-15 BC",
        b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        b"{1,NULL,\"a\\\"b\",{2}}",
        &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7],
        &[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 1, 0x13, 0x88],
    ];
    for data_type in types() {
        for lenient in [false, true] {
            let mut column = ColumnBuilder::new(&data_type, lenient).unwrap();
            let mut expected = 0;
            for _ in 0..4_000 {
                let mut bytes = samples[random.below(samples.len() as u64) as usize].to_vec();
                for _ in 0..random.below(4) {
                    let at = random.below(bytes.len() as u64) as usize;
                    match random.below(3) {
                        0 => bytes[at] = random.next() as u8,
                        1 => bytes.insert(at, random.next() as u8),
                        _ => bytes.truncate(at.max(1)),
                    }
                }
                let text = random.below(2) == 0;
                let taken =
                    if text { column.push_text(&bytes) } else { column.push_binary(&bytes) };
                expected += usize::from(taken.is_ok());
                assert_eq!(column.len(), expected, "SEED={seed} {data_type} {bytes:?}");
            }
            let array = column.finish().unwrap();
            assert_eq!((array.len(), array.data_type()), (expected, &data_type), "SEED={seed}");
        }
    }
}
