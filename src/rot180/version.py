"""The version: the package's metadata has it from here."""

VERSION = "0.1.0"
