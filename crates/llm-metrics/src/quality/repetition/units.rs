//! Splits a text into words, numbers and single signs.

/// A run of letters or digits may be split from this length on, where its hash says so …
const LONG: u32 = 16;
/// … and is split at this length at the latest.
const LONGEST: u32 = 32;

/// Splits a text into units, byte by byte.
///
/// A unit is a run of letters with at most one space before it, a run of digits, or a single character: any other sign, or a letter of a script
/// without lower case. The fields are those of the current unit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Units {
    bytes: u32,
    hash: u32,
    class: Class,
    first: u8,
    look: Look,
}

/// A piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) symbol: Symbol,
    /// A hash of its bytes; the value of a run of digits.
    pub(super) hash: u32,
    pub(super) extent: Extent,
}

/// The length of a unit or a block, and its kinds of characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) bytes: u32,
    pub(super) look: Look,
}

/// The kinds of characters, a bit each, which decide about the kind of a loop. Several units have the union of their bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look(u8);

impl Look {
    /// It has different characters.
    pub(super) const MIXED: Self = Self(1);
    /// It has characters other than white space.
    pub(super) const SOLID: Self = Self(2);
    pub(super) const LINE_BREAK: Self = Self(4);

    #[inline]
    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline]
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Only the first three of these can continue a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
enum Class {
    Letter,
    /// The hash is the value of the number.
    Digit,
    /// A continuation byte of a character.
    Rest,
    /// Any other sign, and white space.
    #[default]
    Sign,
}

/// The stored part of a unit: fifteen bits of its hash or of its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Symbol(u16);

impl Symbol {
    const NUMBER: u16 = 1 << 15;

    pub(super) fn of_block(hash: u32) -> Self {
        Self((hash >> 17) as u16)
    }

    pub(super) fn is_number(self) -> bool {
        self.0 & Self::NUMBER != 0
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    /// Whether the two are equal, or both numbers.
    #[inline]
    pub(super) fn is_like(self, other: Self) -> bool {
        self == other || (self.is_number() && other.is_number())
    }

    /// Four adjacent symbols, without the values of numbers.
    #[inline]
    pub(super) fn without_values(four: u64) -> u64 {
        let numbers = four & 0x8000_8000_8000_8000;
        four & !(numbers - (numbers >> 15))
    }

    /// The increase of a number.
    pub(super) fn since(self, before: Self) -> u16 {
        self.0.wrapping_sub(before.0) & (Self::NUMBER - 1)
    }
}

impl Units {
    /// Adds a byte to the current unit. `false`: the byte ends that unit, and begins the next one.
    #[inline(always)]
    pub(super) fn add(&mut self, byte: u8) -> bool {
        let class = CLASSES[usize::from(byte)];
        if !self.takes(class) {
            return false;
        }
        self.bytes += 1;
        if self.class == Class::Digit {
            self.hash = digit(self.hash, byte);
        } else if class == Class::Letter {
            self.class = Class::Letter;
            self.add_letter(byte);
        } else {
            self.hash = mixed(self.hash, byte);
        }
        true
    }

    /// Begins the next unit.
    #[inline(always)]
    pub(super) fn begin(byte: u8) -> Self {
        let class = CLASSES[usize::from(byte)];
        let hash = if class == Class::Digit { digit(0, byte) } else { mixed(0, byte) };
        Self { bytes: 1, hash, class, first: byte, look: LOOKS[usize::from(byte)] }
    }

    /// The current unit.
    #[inline(always)]
    pub(super) fn unit(&self) -> Option<Unit> {
        if self.bytes == 0 {
            return None;
        }
        // A split part of an endless run of digits does not count as a number.
        let symbol = if self.class == Class::Digit && self.bytes < LONG {
            Symbol(Symbol::NUMBER | self.hash as u16)
        } else {
            Symbol((self.hash.wrapping_mul(0x9e37_79b1) >> 17) as u16)
        };
        Some(Unit { symbol, hash: self.hash, extent: Extent { bytes: self.bytes, look: self.look } })
    }

    /// Reads the letters at the beginning of a text, as long as they belong to the current word. Returns the rest.
    #[inline(always)]
    pub(super) fn read_letters<'t>(&mut self, mut text: &'t [u8]) -> &'t [u8] {
        if self.class == Class::Letter {
            while let [byte, rest @ ..] = text {
                if CLASSES[usize::from(*byte)] != Class::Letter || self.bytes >= LONG {
                    break;
                }
                self.add_letter(*byte);
                self.bytes += 1;
                text = rest;
            }
        }
        text
    }

    #[inline(always)]
    fn takes(&self, class: Class) -> bool {
        match class {
            _ if class > Class::Rest => false,
            Class::Letter => (self.class == Class::Letter && self.goes_on()) || (self.first == b' ' && self.bytes == 1),
            Class::Digit => self.class == Class::Digit && self.goes_on(),
            _ => self.bytes < LONGEST + 4,
        }
    }

    fn goes_on(&self) -> bool {
        self.bytes < LONG || (self.bytes < LONGEST && self.hash & 7 != 0)
    }

    #[inline(always)]
    fn add_letter(&mut self, byte: u8) {
        if byte != self.first {
            self.look = Look::MIXED.union(Look::SOLID);
        }
        self.hash = mixed(self.hash, byte);
    }
}

/// The value of a number with one more digit.
#[inline]
fn digit(value: u32, byte: u8) -> u32 {
    value.wrapping_mul(10).wrapping_add(u32::from(byte & 0xf))
}

/// The hash of a text with one more byte.
#[inline]
fn mixed(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193).rotate_left(9)
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Sign; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => Class::Digit,
            // Two-byte characters include the letters of Greek, Cyrillic, Hebrew, Arabic …, which form words.
            b'a'..=b'z' | b'A'..=b'Z' | 0xc2..=0xdf => Class::Letter,
            0x80..=0xbf => Class::Rest,
            _ => Class::Sign,
        };
        byte += 1;
    }
    classes
};

/// The kind of characters of a unit that begins with this byte.
static LOOKS: [Look; 256] = {
    let mut looks = [Look::SOLID; 256];
    looks[b' ' as usize] = Look(0);
    looks[b'\t' as usize] = Look(0);
    looks[b'\r' as usize] = Look(0);
    looks[b'\n' as usize] = Look::LINE_BREAK;
    looks
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Units {
        /// Reads a byte. Returns the unit that ended before it.
        fn read(&mut self, byte: u8) -> Option<Unit> {
            if self.add(byte) {
                return None;
            }
            let ended = self.unit();
            *self = Self::begin(byte);
            ended
        }
    }

    fn units(text: &str) -> Vec<String> {
        let mut units = Units::default();
        let mut rest = text;
        let ended = text.bytes().chain(*b"\n").filter_map(|byte| units.read(byte)).map(|unit| {
            let (unit, after) = rest.split_at(unit.extent.bytes as usize);
            rest = after;
            unit.to_owned()
        });
        ended.collect()
    }

    #[test]
    fn a_text_is_cut_into_words_numbers_and_signs() {
        assert_eq!(units("One, two 33x"), ["One", ",", " two", " ", "33", "x"]);
        assert_eq!(units("été дом — 我是🎉"), ["été", " дом", " ", "—", " ", "我", "是", "🎉"]);
        assert_eq!(units("a  b\n\tc"), ["a", " ", " b", "\n", "\t", "c"]);
        assert_eq!(units("foo_bar(1.5)"), ["foo", "_", "bar", "(", "1", ".", "5", ")"]);
    }

    proptest! {
        #[test]
        fn letters_that_are_read_at_once_make_the_same_units(text in "[a-cé 1.我]{0,80}|a{0,90}|[a-z]{0,90}") {
            let (mut one, mut many) = (Units::default(), Units::default());
            let mut rest = text.as_bytes();
            while let Some((byte, after)) = rest.split_first() {
                let ended = [one.read(*byte), many.read(*byte)];
                prop_assert_eq!(ended[0], ended[1]);
                rest = many.read_letters(after);
                let letters = &after[..after.len() - rest.len()];
                prop_assert!(letters.iter().all(|letter| one.read(*letter).is_none()));
            }
        }
    }

    #[test]
    fn a_run_without_an_end_is_cut() {
        for run in ["a".repeat(200), "ж".repeat(200), "7".repeat(200), "abcdefg".repeat(40)] {
            assert!(units(&run).iter().all(|unit| unit.len() <= LONGEST as usize + 1), "{:?}", units(&run));
        }
    }

    #[test]
    fn a_run_of_letters_is_cut_after_16_of_them_at_the_earliest() {
        let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
        let cut = (0..100).map(|n| units(&(0..40).map(|at| letter(n * at * at + n)).collect::<String>())[0].len());
        assert_eq!(cut.min(), Some(LONG as usize));
    }

    #[test]
    fn invalid_utf_8_is_cut_too() {
        let mut units = Units::default();
        let ended: Vec<_> = (0..200).filter_map(|_| units.read(0xbf)).map(|unit| unit.extent.bytes).collect();
        assert_eq!(ended, [LONGEST + 4; 5]);
    }

    #[test]
    fn words_that_differ_in_one_letter_have_other_hashes() {
        let words = (b'a'..=b'z').flat_map(|first| (b'a'..=b'z').map(move |second| [first, second]));
        let hashes: std::collections::BTreeSet<_> =
            words.map(|word| word.iter().fold(0, |hash, byte| mixed(hash, *byte))).collect();
        assert_eq!(hashes.len(), 26 * 26);
    }

    #[test]
    fn a_number_is_known_by_its_value() {
        let symbol = |text: &str| {
            let mut units = Units::default();
            assert!(text.bytes().all(|byte| units.read(byte).is_none()));
            units.read(b'.').unwrap().symbol
        };
        assert_eq!(symbol("108").since(symbol("107")), 1);
        assert_eq!(symbol("007"), symbol("7"));
        assert!(symbol("7").is_like(symbol("8")));
        let [seven, eight] = ["7", "8"].map(|text| u64::from(symbol(text).bits()));
        let beside = |number: u64| Symbol::without_values(0x1234 << 48 | number << 16 | 0x7fff);
        assert_eq!(beside(seven), beside(eight));
        assert_eq!(beside(seven), 0x1234_0000_8000_7fff);
        assert!(!symbol("seven").is_number());
        assert!(!symbol("seven").is_like(symbol("7")) && !symbol("7").is_like(symbol("seven")));
        assert!(symbol("40000").is_number());
        assert!(symbol(&"7".repeat(15)).is_number());
        assert!(!symbol(&"7".repeat(16)).is_number(), "it may be a piece of a longer run");
    }
}
