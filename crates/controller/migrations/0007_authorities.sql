-- Which CA each agent's certificate is of, and which CAs it trusts; which CA signed each certificate. Empty: from before this was kept.

-- SHA-256, hexadecimal.
ALTER TABLE agents ADD COLUMN authority TEXT NOT NULL DEFAULT '';
-- The same, commas between.
ALTER TABLE agents ADD COLUMN trusts TEXT NOT NULL DEFAULT '';
ALTER TABLE certificates ADD COLUMN authority TEXT NOT NULL DEFAULT '';
