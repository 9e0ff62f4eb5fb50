//! x
#![allow(dead_code)]

mod time;
mod verify;
