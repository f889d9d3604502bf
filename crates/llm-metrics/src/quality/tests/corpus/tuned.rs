//! The part of the corpus on which thresholds were chosen.

use super::{Dice, Sample, counted, healthy, lines, looping};

const PROSE: &str = "\
The lighthouse at Carrow Point was built in 1847, after three ships had been lost in a single winter. Its keeper, a man called \
Ebbe Lund, kept a diary for thirty-one years, and never once wrote about the sea. He wrote about bread. He noted the price of flour in \
the village, the day on which the oven cracked, the way the dough behaved when the wind came from the north. On the day of the great \
storm, when the lamp burned for fifty hours and two of his fingers froze to the rail, there is one line: \"The rye did not rise.\"

Historians have made much of that line. Some call it denial; others say that a man who looks at waves all day has nothing to add to \
them in the evening. I think that it is simpler. The diary was a present from his daughter, who was a baker's wife, and she read it \
when she came in spring. He wrote for the one reader he had.

What remains of the lighthouse is a stump of eleven metres. The lens is in a museum in the city, where it is lit twice a year. The oven \
is still there, with its crack, and somebody has put a loaf of plaster into it. Visitors take pictures of the loaf. Nobody asks about \
the flour, although the prices are all in the archive, and would tell more about that century than the ships do: they double in \
1853, fall in 1855, and never come back to where they were.

If you want to go there, take the early bus. The path from the stop is steep, but it is short, and at low tide you can walk back along \
the beach. Bring something to eat. The village has no shop any more, and the bakery closed the year after the lamp was put out.
";

const CODE: &str = r#"Here is a small cache that forgets what has not been used for longest:

```rust
use std::collections::HashMap;

pub struct Cache<K, V> {
    entries: HashMap<K, (V, u64)>,
    capacity: usize,
    clock: u64,
}

impl<K: std::hash::Hash + Eq + Clone, V> Cache<K, V> {
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::with_capacity(capacity), capacity, clock: 0 }
    }

    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.clock += 1;
        let clock = self.clock;
        let (value, used) = self.entries.get_mut(key)?;
        *used = clock;
        Some(value)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.clock += 1;
        if self.entries.len() == self.capacity && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(key, (value, self.clock)).map(|(value, _)| value)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_schema_stays() {
        let mut cache = Cache::new(2);
        cache.insert("a", 1);
        cache.insert("b", 2);
        assert_eq!(cache.get(&"a"), Some(&1));
        cache.insert("c", 3);
        assert_eq!(cache.get(&"a"), Some(&1));
        assert_eq!(cache.get(&"b"), None);
        assert_eq!(cache.get(&"c"), Some(&3));
        assert_eq!(cache.len(), 2);
    }
}
```

`insert` looks at every entry, which is fine for some hundreds of them. For more, keep a linked list beside the map.
"#;

const SONG: &str = "\
In the harbour lies a boat, and nobody will row,
  haul away, my sisters, haul away,
her captain went to look for gold a hundred years ago,
  haul away before the break of day.
    And it's low, low, low, where the river meets the sea,
    and it's low, low, low, there's a letter there for me.

The letter says that he is well, it says he will be back,
  haul away, my sisters, haul away,
the ink is blue, the paper white, the seal on it is black,
  haul away before the break of day.
    And it's low, low, low, where the river meets the sea,
    and it's low, low, low, there's a letter there for me.

I keep it in a wooden box, I read it when it rains,
  haul away, my sisters, haul away,
of forty words that once were there a single one remains,
  haul away before the break of day.
    And it's low, low, low, where the river meets the sea,
    and it's low, low, low, there's a letter there for me.

One day I'll take the boat myself and row her out alone,
  haul away, my sisters, haul away,
and if I find what he has found I'll never bring it home,
  haul away before the break of day.
    And it's low, low, low, where the river meets the sea,
    and it's low, low, low, there's a letter there for me.
";

const CHINESE: &str = "\
春天的时候，小镇上的人都到河边去。老人带着茶壶，孩子们带着风筝，谁也不着急回家。河水还很凉，可是柳树已经绿了。卖豆腐的王师傅说，\
他年轻的时候，河上有三座木桥，后来都被水冲走了，只剩下现在这座石桥。石桥很窄，两个人并排走就要碰肩膀，所以镇上的人走路的时候\
总是一前一后，说话也不回头。外地来的客人觉得奇怪，以为他们在吵架。其实他们说的是今天的菜价、明天的天气，还有谁家的女儿要出嫁了。\
夏天来了以后，河边就没有人了。大家都躲在屋子里，等着傍晚的风。只有那座石桥还在太阳底下晒着，晒得发白，像一块忘了收起来的布。\
到了秋天，外出打工的人陆续回来，带着城里的点心和新的故事，桥上又热闹起来。有人说要修一座宽的桥，汽车也能开过去；大家都点头，\
可是谁也没有去量过那条河到底有多宽。冬天下雪的那天早上，桥上只有一行脚印，从这头一直走到那头，没有回来。
";

pub(super) fn samples() -> Vec<Sample> {
    let mut dice = Dice(7);
    let words = ["reset", "timeout", "accepted", "refused", "slow", "ok", "retry", "closed", "warm", "cold"];
    let block =
        lines(90, |n| format!("    fields.push(Field::new(\"column_{}\", {}, {}));", n * 37 % 91, n % 7, n * n % 53));
    vec![
        healthy("prose", PROSE),
        healthy("code", CODE),
        healthy("a song with a refrain", SONG),
        healthy("Chinese", CHINESE),
        healthy("a table", {
            "| city | country | people | since |\n| --- | --- | ---: | ---: |\n".to_owned()
                + &lines(60, |n| {
                    format!(
                        "| {}{n} | {} | {} | {} |",
                        dice.one_of(&["Port ", "Old ", "New "]),
                        dice.one_of(&["Peru", "Mali", "Laos"]),
                        dice.below(900_000),
                        1100 + dice.below(900)
                    )
                })
        }),
        healthy("a JSON array", {
            let rows = lines(80, |n| {
                format!(
                    "  {{\"id\": {n}, \"name\": \"sensor-{n}\", \"value\": {}, \"on\": {}}},",
                    dice.below(1000),
                    dice.below(2) == 0
                )
            });
            format!("[\n{rows}]\n")
        }),
        healthy(
            "a log",
            lines(90, |n| {
                format!(
                    "2026-03-{:02}T10:{:02}:{:02}Z INFO worker {}: connection {}",
                    1 + n / 40,
                    n % 60,
                    dice.below(60),
                    dice.below(8),
                    dice.one_of(&words)
                )
            }),
        ),
        healthy("Base64", {
            let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
            lines(60, |_| (0..76).map(|_| alphabet[dice.below(64) as usize]).collect())
        }),
        healthy("Base64 of mostly nothing", format!("iVBORw0KGgo{}kSuQmCC", "A".repeat(900))),
        healthy(
            "an enumeration",
            lines(120, |n| {
                format!(
                    "{}. {} {}",
                    n + 1,
                    dice.one_of(&["Amber", "Blue", "Clear", "Dark", "Early"]),
                    dice.one_of(&["ash", "birch", "cedar", "elm", "fir", "hazel", "oak"])
                )
            }),
        ),
        healthy(
            "emoji",
            lines(60, |_| {
                (0..6).map(|_| dice.one_of(&["🎉", "🌊", "🍞", "🚲", "🧭", "✨", "🪁"])).collect::<String>() + " !"
            }),
        ),
        healthy("a small matrix of zeros", lines(16, |_| "0, ".repeat(16))),
        healthy("the numbers to 300", (1..=300).map(|n| format!("{n}, ")).collect::<String>()),
        healthy(
            "primes",
            (2..2000).filter(|n| (2..*n).all(|d| n % d != 0)).map(|n| format!("{n}, ")).collect::<String>(),
        ),
        healthy("rules in Markdown", ("\n".to_owned() + &"-".repeat(120) + "\nnext\n\n" + &"=".repeat(80)).repeat(3)),
        healthy("a file that is shown twice", CODE.repeat(2)),
        looping("a word", PROSE, "the "),
        looping("a word and a sign", "The answer is ", "no, "),
        looping("a phrase", CODE, "and so on and so forth, "),
        looping("a sentence", PROSE, "I should check the file once more before I go on. "),
        looping("a paragraph", CHINESE, PROSE.split("\n\n").nth(1).unwrap_or_default()),
        looping("two paragraphs in turn", "So.\n\n", &PROSE[..900]),
        looping("line breaks", PROSE, "\n"),
        looping("spaces", "| a |", " "),
        looping("white space of several kinds", "{\"a\": 1,", "\n  \n\t"),
        looping("a sign", "Wait", "!"),
        looping("a letter", "A", "a"),
        looping("an emoji", "Party ", "🎉"),
        looping("a Chinese phrase", CHINESE, "我不知道该说什么，"),
        looping("a block of 90 lines", "```rust\n", &block),
        looping("a line of code", CODE, "    assert!(cache.is_empty());\n"),
        counted("a list of nothing", "Here are the names:\n", |n| format!("{n}. \n")),
        counted("steps that count", PROSE, |n| format!("Step {n}: look at the result of step {} again.\n", n + 1)),
        counted("two names in turn, counted", "", |n| format!("{}. Alice\n{}. Bob\n", 2 * n - 1, 2 * n)),
        counted("counting down", "", |n| format!("{} more to go. ", 5000 - n)),
    ]
}
