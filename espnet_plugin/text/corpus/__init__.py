"""Unpaired text to token stores: cleaned, tagged, filtered, deduplicated, tokenised; resumably."""
