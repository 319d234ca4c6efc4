/** Names of programs, slots and robots, and names in certificates. */
export const NAME_PATTERN = /^[a-z0-9][a-z0-9._-]{0,63}$/
