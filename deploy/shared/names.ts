/** What programs, slots, robots and operators are called. */
export const NAME_PATTERN = /^[a-z0-9][a-z0-9._-]{0,63}$/
