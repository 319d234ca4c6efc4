/** V at full scale of an ADS1115, by its PGA (datasheet SBAS444, table 8-3). */
export const FULL_SCALES = [6.144, 4.096, 2.048, 1.024, 0.512, 0.256] as const
