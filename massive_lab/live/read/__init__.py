"""What readers read with: mailboxes, tables, callbacks."""
