/** The grammar is the model's: a Tsfile is checked by it, too. */
export * from '../../model/reference.ts';
