"""What the families share: the context of a lowering, rules, the policy of choices."""
