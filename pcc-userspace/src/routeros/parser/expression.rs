//! Values and expressions.

use super::syntax::{Expression, Operator, Test};
use crate::routeros::Severity;
use crate::routeros::lexer::{Parser, Place, shape};

/// Binary operators from the loosest to the tightest; in each row, longer ones before their beginnings.
const OPERATORS: &[&[(&str, Operator)]] = &[
    &[("||", Operator::Or), ("or", Operator::Or)],
    &[("&&", Operator::And), ("and", Operator::And)],
    &[
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("~", Operator::Matches),
        ("in", Operator::In),
    ],
    &[(",", Operator::Append)],
    &[(".", Operator::Concatenate)],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Modulo)],
    &[("&", Operator::BitAnd), ("|", Operator::BitOr), ("^", Operator::BitXor)],
    &[("<<", Operator::ShiftLeft), (">>", Operator::ShiftRight)],
    &[("->", Operator::Element)],
];
const UNARY: &[(&str, Operator)] =
    &[("!", Operator::Not), ("not", Operator::Not), ("-", Operator::Subtract), ("~", Operator::BitNot)];

impl Parser<'_> {
    /// Words, strings, variables and brackets side by side without blanks; `None` if nothing is here.
    pub fn value(&mut self, place: Place) -> Option<Expression> {
        if let Some(word) = self.plain_word(place) {
            self.count();
            return Some(Expression::Text(self.state.shared.text(word)));
        }
        let mut parts = Vec::new();
        loop {
            let part = match self.peek() {
                Some('"') => self.string(),
                Some(quote) if shape::is_typographic(quote) && parts.is_empty() => self.string(),
                Some('$') if self.variable_follows() => {
                    let at = self.at;
                    Expression::Variable(self.variable(), at)
                }
                Some('$') => {
                    self.at += 1;
                    Expression::Text("$".into())
                }
                Some('(') => self.parentheses(),
                Some('[') => self.substitution(),
                Some('{') if parts.is_empty() => self.array(),
                _ => match self.word(place) {
                    word if word.is_empty() => break,
                    word => Expression::Text(word.into()),
                },
            };
            self.count();
            parts.push(part);
        }
        if parts.len() > 1 { Some(Expression::Join(parts)) } else { parts.pop() }
    }

    /// `( … )`.
    pub fn parentheses(&mut self) -> Expression {
        let start = self.at;
        self.at += 1;
        self.inside += 1;
        let result = self.deeper(|parser| {
            parser.blanks();
            let result = if parser.peek() == Some(')') { Some(Expression::Array(Vec::new())) } else { parser.chain(0) };
            parser.blanks();
            if (result.is_none() || parser.peek() != Some(')')) && parser.gave_up != Some(parser.at) {
                let line = parser.line();
                let message = format!("`{}` is not understood in an expression", shape::excerpt(line));
                parser.note(Severity::Error, "syntax", parser.at, parser.at, message);
                parser.at += line.find(')').unwrap_or(line.len());
                return None;
            }
            result
        });
        self.inside -= 1;
        self.close(")", start);
        result.flatten().unwrap_or(Expression::Invalid)
    }

    fn chain(&mut self, level: usize) -> Option<Expression> {
        let Some(operators) = OPERATORS.get(level) else { return self.unary() };
        let first = self.chain(level + 1)?;
        let mut more = Vec::new();
        loop {
            self.blanks();
            let Some(operator) = self.operator(operators) else { break };
            self.blanks();
            self.count();
            more.push((operator, self.chain(level + 1)?));
        }
        Some(if more.is_empty() { first } else { Expression::Chain(Box::new(first), more) })
    }

    fn operator(&mut self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let rest = self.rest();
        let (token, operator) = operators.iter().find(|(token, _)| {
            let Some(behind) = rest.strip_prefix(token) else { return false };
            match *token {
                "&" | "|" | "<" | ">" => !behind.starts_with(token),
                "-" => !behind.starts_with('>'),
                "or" | "and" | "in" | "not" => !behind.starts_with(|next: char| next.is_alphanumeric() || next == '-'),
                _ => true,
            }
        })?;
        self.at += token.len();
        Some(*operator)
    }

    fn unary(&mut self) -> Option<Expression> {
        self.blanks();
        let Some(operator) = self.operator(UNARY) else { return self.atom() };
        let operand = self.deeper(Self::unary).flatten()?;
        Some(Expression::Unary(operator, Box::new(operand)))
    }

    fn atom(&mut self) -> Option<Expression> {
        let at = self.at;
        match self.peek()? {
            '"' => return Some(self.string()),
            quote if shape::is_typographic(quote) => return Some(self.string()),
            '$' if self.variable_follows() => return Some(Expression::Variable(self.variable(), at)),
            '(' => return Some(self.parentheses()),
            '[' => return Some(self.substitution()),
            '{' => return Some(self.array()),
            _ => {}
        }
        let length = shape::literal(self.rest());
        self.at += length;
        (length > 0).then(|| Expression::Text(self.text()[at..self.at].into()))
    }

    /// `{1; 2}` and `{"a"=1; "b"=2}`.
    fn array(&mut self) -> Expression {
        let start = self.at;
        self.at += 1;
        self.inside += 1;
        let elements = self.deeper(|parser| {
            let mut elements = Vec::new();
            loop {
                parser.blanks();
                if parser.eat(";") || parser.eat(",") {
                    continue;
                }
                let Some(first) = parser.value(Place::Element) else { break };
                if parser.eat("=") {
                    let value = parser.value(Place::Element).unwrap_or(Expression::Text("".into()));
                    elements.push((Some(first), value));
                } else {
                    elements.push((None, first));
                }
            }
            elements
        });
        self.inside -= 1;
        self.close("}", start);
        elements.map_or(Expression::Invalid, Expression::Array)
    }

    /// What stands behind `find`, up to the closing bracket.
    pub fn condition(&mut self) -> Option<Test> {
        self.blanks();
        if shape::name(self.rest()) == "where" {
            self.at += "where".len();
        }
        let tests = self.tests(&["or", "||"], |parser| {
            parser.tests(&["and", "&&"], Self::test).map(|tests| one_or(tests, Test::All))
        });
        tests.map(|tests| one_or(tests, Test::Any))
    }

    /// Tests with one of `words` between them; side by side counts as `and`.
    fn tests(&mut self, words: &[&str], mut read: impl FnMut(&mut Self) -> Option<Test>) -> Option<Vec<Test>> {
        let mut tests = vec![read(self)?];
        loop {
            self.blanks();
            let sign = self.eat(words[1]);
            let word = !sign && shape::name(self.rest()) == words[0];
            if word {
                self.at += words[0].len();
            }
            if !sign && !word && (words[0] == "or" || self.ends_tests()) {
                return Some(tests);
            }
            match read(self) {
                Some(test) => tests.push(test),
                None => return Some(tests),
            }
        }
    }

    fn ends_tests(&self) -> bool {
        let rest = self.rest();
        rest.is_empty()
            || rest.starts_with([']', ')', '\n', ';', '}'])
            || rest.starts_with("||")
            || shape::name(rest) == "or"
    }

    fn test(&mut self) -> Option<Test> {
        self.blanks();
        let start = self.at;
        self.count();
        if self.eat("!") || (shape::name(self.rest()) == "not" && self.eat("not")) {
            return self.deeper(Self::test).flatten().map(|test| Test::Not(Box::new(test)));
        }
        if self.peek() == Some('(') {
            self.at += 1;
            self.inside += 1;
            let test = self.deeper(Self::condition).flatten();
            self.blanks();
            self.inside -= 1;
            self.close(")", start);
            return Some(test.unwrap_or(Test::Other(start)));
        }
        let Expression::Text(name) = self.value(Place::Condition)? else { return Some(Test::Other(start)) };
        let behind = self.at;
        self.blanks();
        let Some(operator) = self.operator(OPERATORS[2]) else {
            self.at = behind;
            return Some(Test::Flag(name));
        };
        self.blanks();
        let value = self.value(Place::Condition);
        Some(match (operator, value) {
            (Operator::LessOrEqual | Operator::GreaterOrEqual | Operator::In, _) => Test::Other(start),
            (operator, value) => Test::Compare(name, operator, value.unwrap_or(Expression::Text("".into()))),
        })
    }
}

fn one_or(mut tests: Vec<Test>, several: fn(Vec<Test>) -> Test) -> Test {
    if tests.len() == 1 { tests.remove(0) } else { several(tests) }
}
