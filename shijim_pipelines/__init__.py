"""The batch half: one file per stage, each a few plain functions over what the stage before really wrote."""
