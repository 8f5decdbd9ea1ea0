drop table rooms;
drop table memberships;
drop table homes;
