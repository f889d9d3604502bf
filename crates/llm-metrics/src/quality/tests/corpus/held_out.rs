//! The part of the corpus that was not used to choose thresholds. Texts that are classified wrongly here are listed in the docs.

use super::{Dice, Sample, counted, healthy, lines, looping};

const LETTER: &str = "\
Dear Ms Okafor,

Thank you for your letter of 3 May. You ask why the second half of the grant was paid eleven weeks late, and whether the same is to be \
expected next year. The short answer is that the form you sent in January had an old account number on it, that nobody here compared it \
with the one from the year before, and that the bank returned the money without saying why. We noticed in March, when your colleague \
called. From then on it took us three weeks, of which two were holidays.

None of that was your mistake alone. A form that accepts an account that was closed is a bad form, and we have changed it: the \
number is now checked when it is typed, and if a payment comes back, somebody is told on the same day. I cannot promise that nothing \
will be late again. I can promise that you will hear from us before you have to ask.

As to the report, please use the new outline. Section 4 (what did not work) used to be optional. It is the part that the board \
reads first, and last year it was empty in nine reports out of ten, yours included. You may be brief. Two honest paragraphs help more than \
six pages about what went well, since we know that already from section 3.

You also ask whether the money for the boat may be used for the engine instead. It may, if the boat stays out of service for less than a \
season; otherwise we would ask you to write a short amendment, for which there is no form, and I am glad that there is none.

With kind regards,
J. Halloran
";

const PYTHON: &str = r##"```python
import csv
import sys
from collections import defaultdict


def read(path):
    with open(path, newline="") as source:
        yield from csv.DictReader(source)


def by_month(rows):
    sums = defaultdict(float)
    for row in rows:
        sums[row["date"][:7]] += float(row["amount"])
    return dict(sorted(sums.items()))


def bar(value, largest, width=40):
    return "#" * round(width * value / largest) if largest else ""


def main(paths):
    if not paths:
        print("usage: sums.py FILE...", file=sys.stderr)
        return 2
    for path in paths:
        sums = by_month(read(path))
        largest = max(sums.values(), default=0)
        print(path)
        for month, value in sums.items():
            print(f"  {month}  {value:10.2f}  {bar(value, largest)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
```

And its output for the file that you sent:

```
accounts.csv
  2025-01      812.40  ########################################
  2025-02      790.00  #######################################
  2025-03      406.20  ####################
  2025-04      406.20  ####################
  2025-05      406.20  ####################
  2025-06       12.00  #
  2025-07      811.00  ########################################
```
"##;

const VILLANELLE: &str = "\
The train that left without me comes at ten.
I count the lamps along the empty line.
I never learnt to say it, now or then.

The clock above the door begins again;
the hand that stood is moving, by design.
The train that left without me comes at ten.

There is a woman writing with a pen
that has no ink. She says that she is fine.
I never learnt to say it, now or then.

We talk of weather, cities, now and when
a ticket lapses. Hers is as old as mine.
The train that left without me comes at ten.

A bird is on the rail. A second. Then
the whole of them go up without a sign.
I never learnt to say it, now or then.

If you should see me there, be kind, and when
the lamps are lit, go on, and stand in line.
The train that left without me comes at ten.
I never learnt to say it, now or then.
";

const COOKING: &str = "\
做这道菜不难，难的是等。先把豆子泡一夜，第二天早上换水，水要没过豆子两指。火不能大，大了皮就破；也不能小，小了豆子不软。\
我母亲用的是一口铁锅，锅底有一块补过的地方，她说补过的锅煮东西更香。我不信，可是我自己买了新锅以后，确实不是那个味道。\
煮到一个小时的时候放盐，放早了豆子硬，放晚了没有味道。姜切成丝，葱切成段，蒜不用切，拍一下就行。最后淋一点香油，关火，\
盖上盖子，再等一刻钟。这一刻钟最难等，因为香味已经出来了，孩子们会在厨房门口转来转去。你可以让他们去摆碗筷，也可以给他们\
讲一个故事，但是不要把盖子打开。打开一次，就要多等五分钟，这是我母亲定的规矩，我从来没有问过为什么。
";

pub(super) fn samples() -> Vec<Sample> {
    let mut dice = Dice(41);
    let names = ["Ana", "Bo", "Cem", "Dua", "Eli", "Fay", "Gus", "Hye", "Ivo", "Jun"];
    let verbs = ["opens", "moves", "keeps", "drops", "finds", "sends", "reads", "hides"];
    let config = lines(90, |n| {
        format!(
            "  - name: rule_{}\n    weight: {}\n    when: {}",
            n * 53 % 97,
            n * n % 61,
            if n % 3 == 0 { "always" } else { "late" }
        )
    });
    vec![
        healthy("a letter", LETTER),
        healthy("Python, and a chart", PYTHON),
        healthy("a villanelle", VILLANELLE),
        healthy("a recipe in Chinese", COOKING),
        healthy("INSERT statements", lines(70, |n| format!("INSERT INTO orders (id, customer, cents) VALUES ({}, '{}', {});", 100 + n, dice.one_of(&names), dice.below(90_000)))),
        healthy("GeoJSON", format!("{{\"type\": \"LineString\", \"coordinates\": [{}]}}", (0..90).map(|_| format!("[{}.{}, {}.{}]", dice.below(180), dice.below(9999), dice.below(90), dice.below(9999))).collect::<Vec<_>>().join(", "))),
        healthy("an access log", lines(80, |n| format!("10.0.{}.{} - - [14/Mar/2026:08:{:02}:{:02} +0000] \"GET /item/{} HTTP/1.1\" {} {}", dice.below(4), dice.below(255), n / 2, dice.below(60), dice.below(5000), dice.one_of(&["200", "304", "404"]), dice.below(9000)))),
        healthy("hexadecimal", lines(60, |n| format!("{:08x}: {}", 16 * n, (0..8).map(|_| format!("{:04x} ", dice.below(65_536))).collect::<String>()))),
        healthy("a play", lines(60, |n| format!("{}: {} {} the {}.", if n % 2 == 0 { "FIRST GUARD" } else { "SECOND GUARD" }, dice.one_of(&names), dice.one_of(&verbs), dice.one_of(&["door", "letter", "coin", "map", "lamp"])))),
        healthy("chess", (1..120).map(|n| format!("{n}. {}{}{} {}{}{} ", dice.one_of(&["N", "B", "R", "Q", ""]), dice.one_of(&["a", "c", "e", "g"]), 1 + dice.below(8), dice.one_of(&["N", "B", "R", "Q", ""]), dice.one_of(&["b", "d", "f", "h"]), 1 + dice.below(8))).collect::<String>()),
        healthy("a list in HTML", lines(60, |n| format!("    <li><a href=\"/people/{n}\">{} {}</a></li>", dice.one_of(&names), dice.one_of(&verbs)))),
        healthy("a diff", lines(90, |n| format!("{}    {} = {}({});", if n % 3 == 0 { "-" } else { "+" }, dice.one_of(&names), dice.one_of(&verbs), dice.below(50)))),
        healthy("a multiplication table", lines(20, |row| (1..=20).map(|n| format!("{:4}", (row + 1) * n)).collect())),
        healthy("an identity matrix", lines(40, |row| (0..40).map(|n| if n == row { "1 " } else { "0 " }).collect())),
        healthy("states of a switch", lines(150, |n| format!("t={n}: {}", if dice.below(2) == 0 { "on" } else { "off" }))),
        healthy("a month of days", lines(31, |n| format!("- [ ] 2026-05-{:02}: ", n + 1))),
        healthy("ASCII art", lines(40, |n| format!("{}{}", " ".repeat(40 - n), "/\\".repeat(n)))),
        healthy("emoji of a mood diary", lines(80, |n| format!("Day {}: {}{}", n + 1, dice.one_of(&["😀", "😐", "😢", "😡"]), dice.one_of(&["", "☀️", "🌧️", "❄️"])))),
        healthy("enum variants", lines(80, |n| format!("    {}{} = {},", dice.one_of(&verbs), dice.one_of(&names), n))),
        healthy("a letter that is quoted and answered", format!("{LETTER}\n> {}", LETTER.replace('\n', "\n> "))),
        // Cannot be distinguished from a loop: in each line, only a number increases.
        healthy("the numbers to 1000", lines(1000, |n| (n + 1).to_string())),
        healthy("99 bottles", (1..=99).rev().map(|n| format!("{n} bottles of beer on the wall, {n} bottles of beer.\nTake one down and pass it around, {} bottles of beer on the wall.\n\n", n - 1)).collect::<String>()),
        looping("one word", LETTER, "yes "),
        looping("a name", "The winner is ", "Katrina "),
        looping("a stutter in Cyrillic", "Ответ: ", "но это не так, "),
        looping("a promise", COOKING, "Let me try again with a different approach. "),
        looping("a question and its answer", PYTHON, "Is that right? Yes, that is right. "),
        looping("a stanza", VILLANELLE, &VILLANELLE[..140]),
        looping("a whole poem", "Here it is:\n\n", VILLANELLE),
        looping("a long paragraph", "", &LETTER[18..800]),
        looping("dots", "And then", "."),
        looping("blanks", "```\n", "    "),
        looping("blank lines with blanks", "So.\n", "\n   "),
        looping("laughter", "", "哈"),
        looping("tears", LETTER, "😭😭🙏"),
        looping("an empty row", "| a | b |\n| --- | --- |\n", "|  |  |\n"),
        looping("the same object", "[", "{\"name\": \"\", \"value\": null}, "),
        looping("a tag", "<div>", "</div>"),
        looping("270 lines of YAML", "rules:\n", &config),
        looping("a token of a template", "It is done.", "<|im_end|>\n<|im_start|>assistant\n"),
        looping("digits", "Pi is 3.14159", "26535"),
        looping("a letter without an end", "x = \"", "Q"),
        counted("an item and its number", LETTER, |n| format!("- Item {n}\n")),
        counted("attempts", "", |n| format!("Attempt {n} failed. I will start attempt {} now.\n\n", n + 1)),
        counted("tests without a difference", PYTHON, |n| format!("def test_{n}():\n    assert add({n}, 0) == {n}\n\n")),
        counted("three names in turn, numbered", "", |n| format!("{}. red\n{}. green\n{}. blue\n", 3 * n - 2, 3 * n - 1, 3 * n)),
        counted("seconds", "", |n| format!("12:{:02}:{:02} waiting for the lock\n", n / 60, n % 60)),
        // Loops whose text is different each time.
        counted("letters that count", "", |n| format!("{}) none of these\n", char::from(b'a' + (n % 26) as u8))),
        counted("thoughts that go in circles", LETTER, |n| {
            let mut dice = Dice(n as u64);
            let mut name = || dice.one_of(&names).to_owned();
            format!("Wait, {} has the lamp, so {} must have been there. ", name(), name())
        }),
        counted("a phrase with a word that changes", "", |n| {
            format!("It is very, very {}. ", Dice(n as u64).one_of(&["good", "bad", "old", "new", "odd"]))
        }),
    ]
}
