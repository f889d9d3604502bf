//! A text as words, numbers and single signs.

/// A run of letters or digits is cut where its hash says so from here on …
const LONG: u32 = 16;
/// … and here at the latest.
const LONGEST: u32 = 32;

/// Cuts a text into units, byte by byte.
///
/// A unit is a run of letters with at most one space before it, a run of digits, or a single character: any other sign, and any
/// letter of a script without small letters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Units {
    unit: Unit,
}

/// A piece of text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unit {
    pub(super) bytes: u32,
    hash: u32,
    class: Class,
    first: u8,
    /// All its bytes are the same, or it is one character.
    pub(super) uniform: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Class {
    /// White space, one of it.
    #[default]
    Space,
    Letter,
    /// The bytes' hash is the value of the number.
    Digit,
    /// Any other sign.
    Sign,
    /// Not the first byte of its character.
    Rest,
}

/// What is kept of a unit: fifteen bits of its hash or of its value.
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

    /// Whether the two are the same, or both numbers.
    #[inline]
    pub(super) fn is_like(self, other: Self) -> bool {
        self == other || (self.is_number() && other.is_number())
    }

    /// Four symbols beside each other, without the values of numbers.
    #[inline]
    pub(super) fn without_values(four: u64) -> u64 {
        let numbers = four & 0x8000_8000_8000_8000;
        four & !((numbers >> 15) * 0x7fff)
    }

    /// By how much a number has grown.
    pub(super) fn since(self, before: Self) -> u16 {
        self.0.wrapping_sub(before.0) & (Self::NUMBER - 1)
    }
}

impl Units {
    /// Reads a byte. Tells the unit that ended before it.
    #[inline]
    pub(super) fn read(&mut self, byte: u8) -> Option<Unit> {
        let class = CLASSES[usize::from(byte)];
        if self.unit.takes(class) {
            self.unit.add(byte, class);
            return None;
        }
        let ended = std::mem::replace(&mut self.unit, Unit::begin(byte, class));
        (ended.bytes > 0).then_some(ended)
    }

    /// Reads the letters that a text begins with, as long as they cannot but belong to the word at hand. Tells how many there were.
    #[inline]
    pub(super) fn read_letters(&mut self, text: &[u8]) -> usize {
        let unit = &mut self.unit;
        if unit.class != Class::Letter {
            return 0;
        }
        let room = LONG.saturating_sub(unit.bytes) as usize;
        let is_letter = |byte: &u8| CLASSES[usize::from(*byte)] == Class::Letter;
        let letters = text.iter().take(room).take_while(|byte| is_letter(byte)).count();
        text[..letters].iter().for_each(|byte| unit.add_letter(*byte));
        unit.bytes += letters as u32;
        letters
    }
}

impl Unit {
    /// A unit that stands for a block of others.
    pub(super) fn block(bytes: u32) -> Self {
        Self { bytes, class: Class::Sign, ..Self::default() }
    }

    fn begin(byte: u8, class: Class) -> Self {
        let mut unit = Self { first: byte, uniform: true, ..Self::default() };
        unit.class = if class == Class::Rest { Class::Sign } else { class };
        unit.add(byte, class);
        unit
    }

    fn takes(&self, class: Class) -> bool {
        match class {
            Class::Rest => self.bytes < LONGEST + 4,
            Class::Letter => (self.class == Class::Letter && self.goes_on()) || (self.first == b' ' && self.bytes == 1),
            Class::Digit => self.class == Class::Digit && self.goes_on(),
            Class::Space | Class::Sign => false,
        }
    }

    fn goes_on(&self) -> bool {
        self.bytes < LONG || (self.bytes < LONGEST && self.hash & 7 != 0)
    }

    fn add(&mut self, byte: u8, class: Class) {
        self.bytes += 1;
        if self.class == Class::Digit {
            self.hash = self.hash.wrapping_mul(10).wrapping_add(u32::from(byte & 0xf));
            return;
        }
        if class == Class::Letter {
            self.class = Class::Letter;
            return self.add_letter(byte);
        }
        self.add_to_hash(byte);
    }

    fn add_letter(&mut self, byte: u8) {
        self.uniform &= byte == self.first;
        self.add_to_hash(byte);
    }

    fn add_to_hash(&mut self, byte: u8) {
        self.hash = (self.hash ^ u32::from(byte)).wrapping_mul(0x0100_0193).rotate_left(9);
    }

    pub(super) fn symbol(&self) -> Symbol {
        if self.is_number() {
            Symbol(Symbol::NUMBER | (self.hash as u16))
        } else {
            Symbol((self.hash().wrapping_mul(0x9e37_79b1) >> 17) as u16)
        }
    }

    /// A hash of it; of a number, its value.
    pub(super) fn hash(&self) -> u32 {
        self.hash
    }

    /// A piece of a run of digits without an end counts nothing.
    pub(super) fn is_number(&self) -> bool {
        self.class == Class::Digit && self.bytes < LONG
    }

    pub(super) fn is_blank(&self) -> bool {
        self.class == Class::Space
    }

    pub(super) fn is_line_break(&self) -> bool {
        self.first == b'\n'
    }
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Sign; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' => Class::Space,
            b'0'..=b'9' => Class::Digit,
            // Of two bytes are the letters of Greek, Cyrillic, Hebrew, Arabic … , which have words.
            b'a'..=b'z' | b'A'..=b'Z' | 0xc2..=0xdf => Class::Letter,
            0x80..=0xbf => Class::Rest,
            _ => Class::Sign,
        };
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units(text: &str) -> Vec<String> {
        let mut units = Units::default();
        let mut rest = text;
        let ended = text.bytes().chain(*b"\n").filter_map(|byte| units.read(byte)).map(|unit| {
            let (unit, after) = rest.split_at(unit.bytes as usize);
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
                let ended = [one.read(*byte), many.read(*byte)].map(|unit| unit.map(|unit| (unit.symbol(), unit.bytes, unit.uniform)));
                prop_assert_eq!(ended[0], ended[1]);
                let letters = many.read_letters(after);
                prop_assert!(after[..letters].iter().all(|letter| one.read(*letter).is_none()));
                rest = &after[letters..];
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
    fn a_number_is_known_by_its_value() {
        let symbol = |text: &str| {
            let mut units = Units::default();
            assert!(text.bytes().all(|byte| units.read(byte).is_none()));
            units.read(b'.').unwrap().symbol()
        };
        assert_eq!(symbol("108").since(symbol("107")), 1);
        assert_eq!(symbol("007"), symbol("7"));
        assert!(symbol("7").is_like(symbol("8")));
        let [seven, eight] = ["7", "8"].map(|text| u64::from(symbol(text).bits()));
        let beside = |number: u64| Symbol::without_values(0x1234 << 48 | number << 16 | 0x7fff);
        assert_eq!(beside(seven), beside(eight));
        assert_eq!(beside(seven), 0x1234_0000_8000_7fff);
        assert!(!symbol("seven").is_number());
    }
}
