"""A mail server for tests: STARTTLS and a password are required. Prints each mail as a line of JSON.

smtp_server.py CERTIFICATE KEY USER PASSWORD [plain]
With `plain` there is no TLS.
The first line is the port. Recipients whose name begins with `refused` get 550, those with `busy` 451 at the first attempt.
"""
import asyncio
import email
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

CERTIFICATE, KEY, USER, PASSWORD = sys.argv[1:5]
IS_PLAIN = sys.argv[5:] == ['plain']
seen = set()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith('refused'):
            return f'550 5.1.1 <{address}>: no such mailbox'
        if address.startswith('busy') and address not in seen:
            seen.add(address)
            return '451 4.7.1 try again'
        envelope.rcpt_tos.append(address)
        return '250 OK'

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content)
        text = mail.get_payload(decode=True).decode()
        line = {'from': mail['From'], 'to': envelope.rcpt_tos, 'subject': mail['Subject'], 'text': text,
                'encrypted': session.ssl is not None}
        print(json.dumps(line), flush=True)
        return '250 OK'


def authenticate(server, session, envelope, mechanism, data):
    is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    # What is handled gets no answer of the library.
    return AuthResult(success=is_right, handled=is_right)


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, KEY)

    def protocol():
        tls = {'auth_require_tls': False} if IS_PLAIN else {'tls_context': context, 'require_starttls': True}
        return SMTP(Handler(), authenticator=authenticate, auth_required=True, **tls)

    server = await asyncio.get_running_loop().create_server(protocol, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
