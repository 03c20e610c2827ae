"""What the tests share: loops by name, recording protocols, socket pairs, the audit, child programs."""
