/** `x-request-id` on every response: the client's own if it is sane, else a new one. */
import { randomUUID } from 'node:crypto';
import type { RequestHandler, Response } from 'express';

const SANE = /^[\w.:/+=-]{1,128}$/;

export const requestId: RequestHandler = (req, res, next) => {
  const given = req.get('x-request-id');
  req.id = given !== undefined && SANE.test(given) ? given : `req_${randomUUID().replaceAll('-', '')}`;
  res.setHeader('x-request-id', req.id);
  next();
};

/** The id that `requestId` gave the response. */
export function requestIdOf(res: Response): string {
  return res.get('x-request-id')!;
}
