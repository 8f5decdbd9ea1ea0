drop table parked_readings;
