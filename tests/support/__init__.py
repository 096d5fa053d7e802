"""What tests of several folders share: servers, and values with defaults."""
