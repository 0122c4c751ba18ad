//! The part of Redis that the script of the shared quota uses: hashes, a clock, and scripts in Lua 5.1. The unit tests of
//! the library use this file too.

use std::{cell::RefCell, collections::BTreeMap};

use mlua::{Error, Lua, Value, Variadic};

/// The hashes of a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct LuaRedis {
    pub(crate) hashes: BTreeMap<String, BTreeMap<String, String>>,
    /// The clock, in microseconds.
    pub(crate) now: u64,
}

impl LuaRedis {
    /// Runs a script whose result is a list of strings, as `EVAL` does.
    pub(crate) fn eval(
        &mut self,
        script: &str,
        keys: &[String],
        arguments: &[String],
    ) -> Result<Vec<String>, String> {
        let lua = Lua::new();
        let redis = RefCell::new(self);
        let result = lua.scope(|scope| {
            let call = scope
                .create_function(|lua, command: Variadic<String>| redis.borrow_mut().call(lua, &command))?;
            let globals = lua.globals();
            let commands = lua.create_table()?;
            commands.set("call", call)?;
            globals.set("redis", commands)?;
            globals.set("KEYS", keys)?;
            globals.set("ARGV", arguments)?;
            lua.load(script).eval::<Vec<String>>()
        });
        result.map_err(|error| error.to_string())
    }

    fn call(&mut self, lua: &Lua, command: &[String]) -> mlua::Result<Value> {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let text = |text: &str| lua.create_string(text).map(Value::String);
        let list = |values: Vec<Value>| lua.create_sequence_from(values).map(Value::Table);
        match *command {
            ["TIME"] => {
                let (seconds, micros) = (self.now / 1_000_000, self.now % 1_000_000);
                list(vec![text(&seconds.to_string())?, text(&micros.to_string())?])
            }
            ["HMGET", key, ref fields @ ..] => {
                let hash = self.hashes.get(key);
                let values = fields.iter().map(|field| match hash.and_then(|hash| hash.get(*field)) {
                    Some(value) => text(value),
                    // Redis turns an absent value into false.
                    None => Ok(Value::Boolean(false)),
                });
                list(values.collect::<mlua::Result<_>>()?)
            }
            ["HGETALL", key] => {
                let fields = self.hashes.get(key).into_iter().flatten();
                let values = fields.flat_map(|(field, value)| [text(field), text(value)]);
                list(values.collect::<mlua::Result<_>>()?)
            }
            ["HSET", key, ref pairs @ ..] if pairs.len() % 2 == 0 => {
                let hash = self.hashes.entry(key.to_owned()).or_default();
                for pair in pairs.chunks(2) {
                    hash.insert(pair[0].to_owned(), pair[1].to_owned());
                }
                Ok(Value::Integer(0))
            }
            ["HDEL", key, ref fields @ ..] => {
                let hash = self.hashes.entry(key.to_owned()).or_default();
                hash.retain(|field, _| !fields.contains(&field.as_str()));
                if hash.is_empty() {
                    self.hashes.remove(key);
                }
                Ok(Value::Integer(1))
            }
            ["PEXPIRE", key, milliseconds] => {
                let is_valid = milliseconds.parse::<u64>().is_ok() && self.hashes.contains_key(key);
                if is_valid { Ok(Value::Integer(1)) } else { Err(Error::runtime("ERR invalid expire")) }
            }
            _ => Err(Error::runtime(format!("ERR unknown command {command:?}"))),
        }
    }
}
