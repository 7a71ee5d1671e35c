"""Published results read again from the authors' own records, beside what our way of computing gives on them."""
