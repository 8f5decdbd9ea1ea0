alter table outside_identities rename to external_identities;
alter index outside_identities_user rename to external_identities_user;

comment on table external_identities is 'Links between accounts and identities of trusted external issuers. Permanent, whatever becomes of e-mail addresses.';
comment on column external_identities.issuer is 'The iss claim of the identity''s tokens.';
comment on column external_identities.subject is 'The sub claim of the identity''s tokens, unique at its issuer.';
