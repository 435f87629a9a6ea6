//! The source for MariaDB and MySQL: the binary log, and chunks of tables.
