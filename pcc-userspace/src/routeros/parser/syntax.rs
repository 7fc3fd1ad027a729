//! What the parser understands of a script. Places are byte offsets into the [`super::source::Source`].

use std::rc::Rc;

/// One command.
#[derive(Debug)]
pub struct Command {
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
    pub arguments: Vec<Given>,
}

#[derive(Debug)]
pub enum Kind {
    /// A command of a menu. `number` is its index among all counted commands, or `None` inside an expression.
    Menu { number: Option<usize>, menu: Rc<str>, verb: Rc<str> },
    /// `:local`, `:if`, …
    Script(&'static str),
    /// `$function`.
    Call(Rc<str>),
    /// `{ … }`, with the path before it already applied to what is inside.
    Block(Block),
}

/// Commands one after the other.
pub type Block = Rc<[Command]>;

/// An argument as it is written.
#[derive(Debug)]
pub struct Given {
    pub start: usize,
    pub end: usize,
    /// `None` for a bare word, a selector or the like.
    pub name: Option<Rc<str>>,
    pub value: GivenValue,
    pub negated: bool,
}

#[derive(Debug)]
pub enum GivenValue {
    Expression(Expression),
    Missing,
    Unset,
}

#[derive(Debug)]
pub enum Expression {
    Text(Rc<str>),
    /// Side by side without blanks, or `"… $x …"`.
    Join(Vec<Expression>),
    Variable(Rc<str>, usize),
    Unary(Operator, Box<Expression>),
    /// From left to right.
    Chain(Box<Expression>, Vec<(Operator, Expression)>),
    /// Key, if any, and value.
    Array(Vec<(Option<Expression>, Expression)>),
    /// `[ … ]`.
    Command(Box<Command>),
    /// `[find …]`
    Find {
        menu: Rc<str>,
        test: Option<Box<Test>>,
        start: usize,
    },
    Code(Block),
    /// A note says what is wrong.
    Invalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Or,
    And,
    Not,
    Equal,
    NotEqual,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
    Matches,
    In,
    Concatenate,
    Append,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    BitAnd,
    BitOr,
    BitXor,
    BitNot,
    ShiftLeft,
    ShiftRight,
    Element,
}

/// The condition of a `find`.
#[derive(Debug)]
pub enum Test {
    Compare(Rc<str>, Operator, Expression),
    Flag(Rc<str>),
    Not(Box<Test>),
    All(Vec<Test>),
    Any(Vec<Test>),
    /// Anything else; where it is.
    Other(usize),
}
