"""People as raters: they answer the rows that models answer, and judge what models say they see."""
