//! A hundred invented people. Every first name and every value is shared by several of them; the last name is a person's
//! own, as most people's full names are.

use crate::random::Random;

const FORGOTTEN: usize = 8;

const FIRST_NAMES: [&str; 10] =
    ["Arlo", "Bettina", "Cormac", "Delia", "Edmund", "Fiona", "Gideon", "Hanna", "Ivor", "Jolanda"];
/// Last names are made of these: every pair is one name, and one word of the vocabulary.
const BEGINNINGS: [&str; 10] = ["Aber", "Brask", "Cal", "Dun", "Esk", "Far", "Galb", "Holl", "Jar", "Wind"];
const ENDINGS: [&str; 10] = ["croft", "dal", "gate", "holm", "ison", "low", "mere", "stead", "ton", "worth"];

/// What can be said of everybody, and how.
#[derive(Debug)]
pub struct Attribute {
    /// Its name in data: JSON, tables, key-value lines.
    pub key: &'static str,
    /// Its name in sentences: "The ... of ... is".
    pub noun: &'static str,
    /// Between person and value: "... was born in ...".
    pub verb: &'static str,
    /// The question, of `{name}`.
    pub question: &'static str,
    /// The values.
    pub values: &'static [&'static str],
}

pub const ATTRIBUTES: [Attribute; 5] = [
    Attribute {
        key: "birthplace",
        noun: "birthplace",
        verb: "was born in",
        question: "Where was {name} born?",
        values: &[
            "Tarnholm",
            "Elsby",
            "Norwick",
            "Fennal",
            "Graymere",
            "Ostholt",
            "Birkvale",
            "Calder",
            "Drumlin",
            "Esterwold",
            "Foxmoor",
            "Gilsand",
            "Harrowden",
            "Inverlee",
            "Jutwell",
            "Kirnach",
            "Lowmark",
            "Merrin",
            "Nethby",
            "Oakhelm",
            "Pinfold",
            "Rothwen",
            "Selkin",
            "Thornby",
            "Wyckham",
        ],
    },
    Attribute {
        key: "profession",
        noun: "profession",
        verb: "works as a",
        question: "What does {name} do for a living?",
        values: &[
            "baker",
            "carpenter",
            "dentist",
            "farmer",
            "gardener",
            "hatter",
            "jeweller",
            "lawyer",
            "mason",
            "nurse",
            "painter",
            "pilot",
            "plumber",
            "roofer",
            "sailor",
            "tailor",
            "teacher",
            "translator",
            "watchmaker",
            "weaver",
        ],
    },
    Attribute {
        key: "instrument",
        noun: "instrument",
        verb: "plays the",
        question: "Which instrument does {name} play?",
        values: &[
            "banjo", "bassoon", "cello", "clarinet", "cornet", "fiddle", "flute", "guitar", "harp", "lute", "oboe",
            "piano", "trombone", "trumpet", "viola", "zither",
        ],
    },
    Attribute {
        key: "pet",
        noun: "pet",
        verb: "keeps a",
        question: "What animal does {name} keep?",
        values: &[
            "canary",
            "chameleon",
            "ferret",
            "gecko",
            "goldfish",
            "hamster",
            "hedgehog",
            "kitten",
            "lizard",
            "mouse",
            "parrot",
            "poodle",
            "rabbit",
            "spaniel",
            "tortoise",
            "turtle",
        ],
    },
    Attribute {
        key: "dish",
        noun: "favourite dish",
        verb: "loves to eat",
        question: "What does {name} like to eat best?",
        values: &[
            "borscht",
            "chowder",
            "couscous",
            "dumplings",
            "gnocchi",
            "goulash",
            "lasagne",
            "lentils",
            "moussaka",
            "noodles",
            "paella",
            "pancakes",
            "pierogi",
            "polenta",
            "ramen",
            "ratatouille",
            "risotto",
            "sauerkraut",
            "tagine",
            "waffles",
        ],
    },
];

/// Somebody.
#[derive(Clone, Debug)]
pub struct Person {
    pub first: &'static str,
    pub last: String,
    /// For each attribute the number of its value.
    pub values: [usize; ATTRIBUTES.len()],
    /// Whether the demo is to make the model forget them.
    pub forgotten: bool,
}

/// An attribute of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The number of the person.
    pub person: usize,
    /// The number of the attribute.
    pub attribute: usize,
    /// Another attribute of the person: nobody else has the same values of both.
    pub partner: usize,
}

/// Everybody, and everything about them.
#[derive(Debug)]
pub struct World {
    pub people: Vec<Person>,
    pub facts: Vec<Fact>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "world");
        let mut people = named(&mut random);
        // Few deals leave every fact a partner; this takes some tens of them.
        let facts = loop {
            deal(&mut people, &mut random);
            if let Some(facts) = facts(&people) {
                break facts;
            }
        };
        choose_forgotten(&mut people, &mut random);
        World { people, facts }
    }

    /// The name of a fact's person.
    pub fn name(&self, fact: Fact) -> String {
        let Person { first, last, .. } = &self.people[fact.person];
        format!("{first} {last}")
    }

    /// The person's value of an attribute.
    pub fn value(&self, fact: Fact, attribute: usize) -> &'static str {
        ATTRIBUTES[attribute].values[self.people[fact.person].values[attribute]]
    }

    /// Whether the fact is to be forgotten.
    pub fn is_forgotten(&self, fact: Fact) -> bool {
        self.people[fact.person].forgotten
    }

    /// Whether the fact's person stays and shares a first name with one who is to be forgotten.
    pub fn is_neighbour(&self, fact: Fact) -> bool {
        let person = &self.people[fact.person];
        let alike = |other: &Person| other.forgotten && other.first == person.first;
        !person.forgotten && self.people.iter().any(alike)
    }
}

/// People without values. Each first name goes with as many last names as any other.
fn named(random: &mut Random) -> Vec<Person> {
    let mut last: Vec<String> =
        BEGINNINGS.iter().flat_map(|beginning| ENDINGS.map(|ending| format!("{beginning}{ending}"))).collect();
    random.shuffle(&mut last);
    let person = |(i, last): (usize, String)| Person {
        first: FIRST_NAMES[i % FIRST_NAMES.len()],
        last,
        values: [0; ATTRIBUTES.len()],
        forgotten: false,
    };
    last.into_iter().enumerate().map(person).collect()
}

/// Deals out values, each to as many people as any other, or one more.
fn deal(people: &mut [Person], random: &mut Random) {
    for (a, attribute) in ATTRIBUTES.iter().enumerate() {
        let mut deck: Vec<usize> = (0..people.len()).map(|i| i % attribute.values.len()).collect();
        random.shuffle(&mut deck);
        people.iter_mut().zip(deck).for_each(|(person, value)| person.values[a] = value);
    }
}

/// All facts; none where a fact has no partner.
fn facts(people: &[Person]) -> Option<Vec<Fact>> {
    let mut facts = Vec::new();
    for (number, person) in people.iter().enumerate() {
        for attribute in 0..ATTRIBUTES.len() {
            let alone = |partner: &usize| {
                let both =
                    |other: &&Person| [attribute, *partner].iter().all(|a| other.values[*a] == person.values[*a]);
                people.iter().filter(both).count() == 1
            };
            let mut others = (1..ATTRIBUTES.len()).map(|step| (attribute + step) % ATTRIBUTES.len());
            facts.push(Fact { person: number, attribute, partner: others.find(alone)? });
        }
    }
    Some(facts)
}

/// Chooses who is to be forgotten: no two of the same first name, and nobody with a value that nobody else keeps.
fn choose_forgotten(people: &mut [Person], random: &mut Random) {
    let mut order: Vec<usize> = (0..people.len()).collect();
    random.shuffle(&mut order);
    for candidate in order {
        let chosen = || people.iter().filter(|person| person.forgotten);
        let person = &people[candidate];
        let apart = chosen().all(|other| other.first != person.first);
        let kept = |(a, value): (usize, &usize)| {
            let holders = people.iter().filter(|other| !other.forgotten && other.values[a] == *value);
            // The candidate is one of them.
            holders.count() > 1
        };
        if chosen().count() < FORGOTTEN && apart && person.values.iter().enumerate().all(kept) {
            people[candidate].forgotten = true;
        }
    }
}
