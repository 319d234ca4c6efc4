/** MEDULLA_TIME_SCALE multiplies every specified time, for slow machines; 1 if it is absent (HANDOVER 10.2). */
export const timeScale = (): number => Number(process.env.MEDULLA_TIME_SCALE) || 1
