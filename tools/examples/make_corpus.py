#!/usr/bin/env python3
"""Writes the texts of the example: what its model reads first, what it is fine-tuned on, what it is asked.

    tools/examples/make_corpus.py --text FILE      writes the pretraining text, JSON lines with "text"
    tools/examples/make_corpus.py --instructions   writes examples/instructions.json and examples/held_out.json
    tools/examples/make_corpus.py --check          fails unless both are what this program writes and share nothing

Everything is made from the word lists and sentence patterns of examples/words. The text states every fact; the
instructions ask for some of them, the held-out prompts for others. Same lists, same bytes, on every machine.
"""

import argparse
import json
import random
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WORDS = EXAMPLES / "words"
SEED = 3
ROUNDS = 32  # how often the text states each fact
GROUP_SIZES = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4)
GROUPS_IN_DOCUMENT = 3
LED = 0.85  # share of the groups of facts that begin with what they are about
PAUSED = 0.3  # share of those that say something else before the facts
STORY_SHARE = 0.2  # of the documents that state facts


def read(name):
    return json.loads((WORDS / f"{name}.json").read_text(encoding="utf-8"))


class Chance:
    """Random choices that no version of Python changes: only random() is promised to stay."""

    def __init__(self, seed):
        self.random = random.Random(seed).random

    def below(self, bound):
        return int(self.random() * bound)

    def pick(self, values):
        return values[self.below(len(values))]

    def shuffled(self, values):
        values = list(values)
        for i in range(len(values) - 1, 0, -1):
            j = self.below(i + 1)
            values[i], values[j] = values[j], values[i]
        return values


class Grammar:
    def __init__(self):
        self.rules = read("articles")

    def with_article(self, word):
        if word in self.rules["none"]:
            return word
        vowel = word[0].lower() in self.rules["an_before"] and word.split()[0] not in self.rules["a_words"]
        return ("an " if vowel else "a ") + word

    def fill(self, pattern, slots):
        """Puts words into {x}, {X} (capital first letter), {a x} and {A x} (with its article)."""
        for key, word in slots.items():
            pattern = pattern.replace("{" + key + "}", word)
            pattern = pattern.replace("{a " + key + "}", self.with_article(word))
            pattern = pattern.replace("{A " + key + "}", capital(self.with_article(word)))
            pattern = pattern.replace("{" + key.upper() + "}", capital(word))
        return pattern


def capital(text):
    return text[0].upper() + text[1:]


def count_words(lists):
    words = lists["units"] + lists["teens"]
    for ten in lists["tens"]:
        words += [ten] + [f"{ten}-{unit}" for unit in lists["units"]]
    return words + [lists["hundred"]]


def facts_of(task):
    """The facts of a task, (x, y), in groups: what one fact of a group tells, the others tell too."""
    words = read(task["words"])
    form = task["form"]
    if form == "grouped":
        return [[(x, y)] for y, members in words.items() for x in members]
    if form == "map":
        return [[fact] for fact in words.items()]
    if form == "both":
        return [[(x, y), (y, x)] for x, y in words]
    if form == "pairs":
        return [[(x, y)] for x, y in words]
    counted = count_words(words)
    return [[fact] for fact in zip(counted, counted[1:])]


def check_facts(task, groups):
    asked = [x for group in groups for x, _ in group]
    twice = {x for x in asked if asked.count(x) > 1}
    if twice:
        sys.exit(f"make_corpus: {task['name']} has two answers for {', '.join(sorted(twice))}")


def story_slots(chance, lists):
    slots = {key: chance.pick(lists[key]) for key in ("place", "weather", "time")}
    slots["name"], slots["other"] = chance.shuffled(lists["name"])[:2]
    return slots


def make_story(chance, grammar, kinds, lists):
    slots = {kind: chance.pick(words) for kind, words in kinds.items()}
    slots |= story_slots(chance, lists)
    middles = chance.shuffled(lists["middle"])[: 2 + chance.below(3)]
    sentences = [chance.pick(lists["opening"]), *middles, chance.pick(lists["ending"])]
    return " ".join(capital(grammar.fill(sentence, slots)) for sentence in sentences)


def make_lead(chance, grammar, lists, leads, subjects):
    """Names what the next sentences are about: from this the model learns to find a word said before."""
    listed = " and ".join([", ".join(subjects[:-1]), subjects[-1]] if len(subjects) > 1 else subjects)
    slots = {"list": listed, **story_slots(chance, lists)}
    sentences = [chance.pick(leads["lead"])]
    if chance.random() < PAUSED:
        sentences.append(chance.pick(leads["pause"]))
    return [capital(grammar.fill(sentence, slots)) for sentence in sentences]


def make_group(chance, grammar, lists, leads, facts):
    """A few facts, each (task, x, y), most often behind a lead."""
    sentences = []
    if chance.random() < LED:
        sentences += make_lead(chance, grammar, lists, leads, [x for _, x, _ in facts])
    for task, x, y in facts if chance.below(2) else chance.shuffled(facts):
        # The first pattern is the one that answers use: half of the time.
        pattern = task["facts"][0] if chance.below(2) else chance.pick(task["facts"][1:])
        sentences.append(capital(grammar.fill(pattern, {"x": x, "y": y})))
    return " ".join(sentences)


def make_text(tasks, grammar):
    """Documents in random order: every fact once a round in groups of one to four, and stories between them."""
    chance = Chance(SEED)
    kinds, lists, leads = read("kinds"), read("stories"), read("leads")
    facts = [(task, x, y) for task in tasks for group in facts_of(task) for x, y in group]
    documents = []
    for _ in range(ROUNDS):
        said = chance.shuffled(facts)
        groups = []
        while said:
            size = chance.pick(GROUP_SIZES)
            groups.append(make_group(chance, grammar, lists, leads, said[:size]))
            said = said[size:]
        for i in range(0, len(groups), GROUPS_IN_DOCUMENT):
            documents.append("\n\n".join(groups[i : i + GROUPS_IN_DOCUMENT]))
    stories = int(len(documents) * STORY_SHARE)
    documents += [make_story(chance, grammar, kinds, lists) for _ in range(stories)]
    return chance.shuffled(documents)


def make_record(chance, grammar, task, fact):
    slots = dict(zip(("x", "y"), fact))
    return {
        "instruction": grammar.fill(chance.pick(task["questions"]), slots),
        "input": "",
        "output": capital(grammar.fill(task["facts"][0], slots)),
    }


def make_instructions(tasks, grammar):
    """Records to learn from, and held-out records about facts that no record to learn from is about."""
    chance = Chance(SEED + 1)
    training, held_out = [], []
    for task in tasks:
        groups = facts_of(task)
        check_facts(task, groups)
        groups = chance.shuffled(groups)
        asked, taught = groups[: task["held_out"]], groups[task["held_out"] :]
        held_out += [make_record(chance, grammar, task, group[0]) for group in asked]
        training += [make_record(chance, grammar, task, fact) for group in taught for fact in group]
    return chance.shuffled(training), chance.shuffled(held_out)


def as_json(records):
    return "[\n" + ",\n".join("  " + json.dumps(record) for record in records) + "\n]\n"


def check(training, held_out):
    for name, records in (("instructions", training), ("held_out", held_out)):
        path = EXAMPLES / f"{name}.json"
        if path.read_text(encoding="utf-8") != as_json(records):
            sys.exit(f"make_corpus: {path} is not what the word lists give: run make_corpus.py --instructions")
    prompts = {(record["instruction"], record["input"]) for record in training}
    outputs = {record["output"] for record in training}
    shared = [r for r in held_out if (r["instruction"], r["input"]) in prompts or r["output"] in outputs]
    if shared:
        sys.exit(f"make_corpus: {len(shared)} held-out records are in the training file, such as {shared[0]}")
    asked = {(record["instruction"], record["input"]) for record in held_out}
    if len(asked) != 100:
        sys.exit(f"make_corpus: {len(asked)} different held-out prompts, not 100")
    print(f"{len(training)} records to learn from, {len(asked)} held out, nothing in common")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, metavar="FILE", help="write the pretraining text here")
    parser.add_argument("--instructions", action="store_true", help="write instructions.json and held_out.json")
    parser.add_argument("--check", action="store_true", help="check instructions.json and held_out.json")
    arguments = parser.parse_args()
    if not (arguments.text or arguments.instructions or arguments.check):
        parser.error("nothing to do: give --text FILE, --instructions or --check")
    tasks = read("tasks")
    grammar = Grammar()
    if arguments.text:
        lines = [json.dumps({"text": text}) + "\n" for text in make_text(tasks, grammar)]
        arguments.text.parent.mkdir(parents=True, exist_ok=True)
        arguments.text.write_text("".join(lines), encoding="utf-8")
    training, held_out = make_instructions(tasks, grammar)
    if arguments.instructions:
        (EXAMPLES / "instructions.json").write_text(as_json(training), encoding="utf-8")
        (EXAMPLES / "held_out.json").write_text(as_json(held_out), encoding="utf-8")
    if arguments.check:
        check(training, held_out)


if __name__ == "__main__":
    main()
